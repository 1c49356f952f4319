"""Condense 288 graphs into two graphs per class, and compare them with the real graphs that they started from."""

import attar.graphs as graphs

motifs = graphs.load("motifs")
print(motifs)

brief = graphs.Architecture(width=32)
methods = {
    "start": graphs.GraphStart(gpc=2),
    "gstam": graphs.GSTAM(gpc=2, steps=60, real_batch=32, lr_features=0.03, architecture=brief),
}
protocol = graphs.Protocol(name="short", epochs=40, training_lr=0.005)
print(graphs.cross_validate(methods, motifs, folds=5, repeats=1, network="gcn:width=32", protocol=protocol))
