"""Compare two methods with two seeds and two kinds of networks each: one table, with paired differences."""

import attar

digits = attar.load("digits")
sets = [
    attar.condense(digits, method, out=f"runs/{method.name}-{seed}", seed=seed)
    for method in (attar.Random(ipc=1), attar.DM(ipc=1, steps=50))
    for seed in (0, 1)
]
protocol = attar.Protocol(name="short", epochs=40)
print(attar.compare(sets, digits, networks=["convnet", "mlp"], repeats=2, protocol=protocol, ceiling="skip"))
