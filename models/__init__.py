"""The method section: layers, stylegan2, losses, fingerprinted, plain; methods looks a method up by its name."""
