"""Published settings: the scripts of the field, family by family, and its methods by name."""

from typing import Any

FULL = {"corrections": 1, "answers_by": "adaptive", "teacher_clip": "learned", "span_weight": 1.0, "select": "rouge"}
"""All three levels of the multi-granularity paper, on the data of DistiLLM's schedule."""

BASELINES: dict[str, dict[str, Any]] = {
    "sft": {"divergence": "none"},
    "seqkd": {"divergence": "none", "answers_by": "teacher"},
    "kd": {"divergence": "forward", "label_weight": 0.0},
    "imitkd": {"divergence": "forward", "label_weight": 0.0, "answers_by": "mixed", "student_share": 0.5},
    # DistiLLM's code has β = 0.1 here: 0.9 of its mixture is the student's.
    "gkd": {
        "divergence": "jsd",
        "jsd_beta": 0.5,
        "label_weight": 0.0,
        "answers_by": "on-policy",
        "student_share": 0.5,
    },
    "distillm": {"divergence": "skew-reverse", "skew": 0.1, "label_weight": 0.0, "answers_by": "adaptive"},
    "minillm": {
        "divergence": "policy",
        "label_weight": 0.5,  # of the pre-training text, for which references stand in where there is no corpus
        "corpus_weight": 0.5,
        "lr": 5e-6,
        "batch": 16,
        "steps": 5000,
        "rollouts": 256,
        "rollout_epochs": 4,
        "reward_scale": 0.5,
        "reward_clip": 100.0,
        "own_reward": True,
        "whiten": True,
        "weigh_single": False,
        "max_length": 512,
        "max_prompt": 256,
    },
    "uld": {"align_by": "uld", "teacher_weight": 1.5},
    "gold": {
        "align_by": "spans",
        "hybrid_weight": "count",
        "divergence": "jsd",
        "jsd_beta": 0.5,
        "label_weight": 0.0,
        "answers_by": "on-policy",
        "student_share": 0.5,
    },
    "alm": {"align_by": "likelihood", "label_weight": 0.0},
    "full": FULL,
}
"""Methods by name: what each learns from, and on whose answers."""
