"""The evidence report: what a picture shows, for people who must decide about it."""
