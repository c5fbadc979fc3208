"""Every method, by the name that --method takes.

A method is a module with NAME and four functions:

    networks(config, resolution, names)    {name: network}, everything a run trains or keeps, or those of `names`
    phases(config)                  [models.phase.Phase], in the order a step runs them
    as_model(nets, batch_size)      the metrics.base.Model of trained networks
    bake(nets, code)                the network of one user, whose draw_noise(seed) gives it noise images of its own; a
                                    method without fingerprints has none

Besides these a method has `generate(nets, latents, fingerprints)` and, if it has a decoder, `decode(nets, images)`, on
tensors, which as_model wraps.

Methods that are given to finished generators are in models.presets.ADOPTS.

`warm_start(config, nets)`, if it has one, is called once, before the first step of a run.

AVERAGED names the networks of which a run keeps a moving average, EVALUATED those that as_model and bake take.
"""
from models import adopted, bound, fingerprinted, plain

METHODS = {method.NAME: method for method in (fingerprinted, bound, adopted, plain)}
