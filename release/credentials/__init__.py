"""Content Credentials (C2PA): signed statements within picture files, as the second layer beside the fingerprint."""
