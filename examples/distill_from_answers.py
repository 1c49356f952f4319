"""Store a language teacher's answers once, and train students from them: the teacher is not needed again."""

import time

import attar.language as language

data = language.load("phrases")
sizes = {"max_length": 96, "batch": 16, "lr": 4e-3}
teacher = language.train(data, "gpt2:layers=2,width=64", epochs=4, answers=8, **sizes)

stored = language.label(
    data, language.StoreAnswers(top=32, max_length=96), teacher=teacher, out="runs/answers", answers=8
)
print(stored, "\n")

for name, source in {"the teacher": {"teacher": teacher}, "its answers": {"stored_answers": "runs/answers"}}.items():
    method = language.DistillLanguage.of(student="gpt2:layers=1,width=32", epochs=2, divergence="jsd", **sizes)
    start = time.perf_counter()
    student = language.distill(data, method, answers=8, **source)
    print(f"from {name}, in {time.perf_counter() - start:.1f} s:\n{student}\n")
