"""Distill a small language model: from the labels alone, from its teacher, and with all three levels."""

import attar.language as language

data = language.load("phrases")
print(data)

sizes = {"max_length": 96, "batch": 16, "lr": 4e-3}
teacher = language.train(data, "gpt2:layers=2,width=64", epochs=4, answers=8, **sizes)
print("the teacher by itself:", teacher, sep="\n")

ways = {
    "labels alone": {"divergence": "none"},
    "forward KL": {},
    "all three levels": {
        "answers_by": "mixed",  # half of the prompts are answered by the student,
        "corrections": 1,  # its answers corrected where they part most from the teacher's,
        "teacher_clip": "learned",  # the teacher's distribution cut to its dense part,
        "span_weight": 1.0,  # and neighbours within a phrase related as the teacher has them
        "new_tokens": 24,
    },
}
for name, settings in ways.items():
    method = language.DistillLanguage.of(student="gpt2:layers=1,width=32", epochs=2, **sizes, **settings)
    student = language.distill(data, method, teacher=teacher, answers=8)
    print(f"\n{name}:\n{student}")
