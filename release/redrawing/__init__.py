"""Reading a picture less the generator's own picture of it: the latent that it was drawn from, and what is left."""
