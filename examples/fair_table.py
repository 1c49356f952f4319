"""A DataFrame in, a fair DataFrame out, and what was lost and gained on the way."""

import numpy as np
import pandas as pd

import attar
from attar import tables

# A stand-in for your table: the district is a proxy of the group, and both go with the decision.
draw, count = np.random.default_rng(0), 3000
group = np.where(draw.random(count) < 0.4, "green", "amber")
district = np.where(draw.random(count) < np.where(group == "green", 0.8, 0.2), "harbour", "hill")
years = draw.integers(0, 30, count)
logit = 0.1 * years - 2 + 1.2 * (district == "hill") + draw.logistic(size=count)
frame = pd.DataFrame({"group": group, "district": district, "years": years, "hired": np.where(logit > 0, "yes", "no")})

source = tables.sources_from(frame, label="hired", positive="yes", sensitive="group")  # a fifth is for testing
print(source)

method = tables.FairTables(rows=1000, tables=3, teaching=tables.FairTeacher(epochs=100))
made = attar.condense(source, method, out="runs/fair")
fair = made.to_pandas()  # the columns and types of the frame
fair.to_csv("fair.csv", index=False)
print(fair.head())
print("made with", {name: value for name, value in made.scores.items() if name.startswith("AUC")})
for name, rows in (("real", frame), ("fair", fair)):
    print(name, (rows["hired"] == "yes").groupby(rows["group"]).mean().round(2).to_dict())

# Classifiers are trained on these tables, and on as many real rows, plainly and mitigated. All are tested on real rows.
row = attar.evaluate(made, source, decoded=3, downstream="logistic", beside="run").rows[0]
for cell in row.cells:
    if cell.column in ("AUROC", "DPD at matched rate"):
        print(f"{cell.column}: {cell.score} of the fair table", *cell.beside, sep="\n  ")
