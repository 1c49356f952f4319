"""What an artefact says of itself."""

import dataclasses

import attar
from attar.cli import main
from attar.core.scores import scores_in
from attar.images.networks.architecture import Architecture
from attar.images.protocols import Protocol
from attar.verbs import evaluate

SETTINGS = {"repeats": 2, "ceiling": "skip", "beside": "skip", "networks": [Architecture(width=4)]}


def made(digits, engine, folder, **settings):
    return attar.condense(digits, attar.Random(**settings), out=folder, seed=3, engine=engine)


def test_it_says_how_to_make_it_again(digits, engine, tmp_path):
    made("digits", engine, tmp_path, ipc=2)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "attar condense random --data digits --ipc 2 --seed 3" in text
    assert "20 images (2 per class) that replace 1,297" in text
    assert f"Data fingerprint: `{digits.fingerprint}`" in text
    assert "| score |" not in text


def test_the_command_on_the_card_makes_the_same_set(tmp_path, engine):
    method = attar.DM(ipc=1, steps=2, real_batch=2, siamese=False, architecture=Architecture(width=4))
    first = attar.condense("digits", method, out=tmp_path / "one", engine=engine)
    lines = (tmp_path / "one" / "README.md").read_text(encoding="utf-8").splitlines()
    command = next(line for line in lines if line.startswith("attar condense"))
    again = [*command.split()[1:], "--out", str(tmp_path / "two"), "--device", "cpu", "--compile", "off", "--quiet"]
    main(again)
    assert attar.open_artefact(tmp_path / "two").fingerprint == first.fingerprint


def test_unequal_numbers_per_class_read_well(digits, engine, tmp_path):
    made(digits, engine, tmp_path, ipc=(1, 2, 3, 1, 1, 1, 1, 1, 1, 4))
    assert "16 images (1 to 4 per class)" in (tmp_path / "README.md").read_text(encoding="utf-8")


def test_scores_are_kept_and_shown_and_replaced_by_newer_ones(digits, engine, tmp_path):
    small = made(digits, engine, tmp_path, ipc=2)
    for epochs in (1, 2):
        result = evaluate(small, digits, protocol=Protocol(name="brief", epochs=epochs), engine=engine, **SETTINGS)
        small.remember(list(result.networks))
    other = evaluate(small, digits, protocol=Protocol(name="other", epochs=1), engine=engine, **SETTINGS)
    small.remember(list(other.networks))
    assert [cell.protocol for cell in scores_in(tmp_path)] == ["brief", "other"]
    score = result.networks[0].score
    assert f"| **convnet** | brief | {score} | 2 | {small.bytes:,} |  |" in (tmp_path / "README.md").read_text(
        encoding="utf-8"
    )
    assert attar.open_artefact(tmp_path).fingerprint == small.fingerprint


def test_damaged_scores_are_no_obstacle(digits, engine, tmp_path):
    small = made(digits, engine, tmp_path, ipc=1)
    (tmp_path / "scores.json").write_text("{", encoding="utf-8")
    assert scores_in(tmp_path) == []
    small.write_card(tmp_path)


def test_evaluate_leaves_its_scores_with_every_set(digits, engine, tmp_path, capsys):
    for seed in (0, 1):
        attar.condense(digits, attar.Random(ipc=1), out=tmp_path / str(seed), seed=seed, engine=engine)
    words = "--networks mlp:width=4 --repeats 2 --protocol quick --ceiling skip --beside skip --quiet"
    main(["evaluate", str(tmp_path / "0"), str(tmp_path / "1"), *words.split()])
    assert "4 networks on 2 sets" in capsys.readouterr().out
    kept = [scores_in(tmp_path / str(seed))[0] for seed in (0, 1)]
    assert all(len(cell.values) == 1 and cell.score.n == 2 for cell in kept)
    assert kept[0].values != kept[1].values


def test_the_card_shows_what_a_score_is_read_with(digits, engine, tmp_path):
    """B4."""
    made(digits, engine, tmp_path, ipc=1)
    words = "--networks mlp:width=4 --repeats 2 --protocol quick --ceiling skip --beside run --quiet"
    main(["evaluate", str(tmp_path), *words.split()])
    (cell,) = scores_in(tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert [other.label for other in cell.rivals] == [
        "always guessing",
        "without augmentation",
        "random, as many images",
        "random, as many bytes",
    ]
    for other in cell.rivals:
        assert f"| beside it, {other.label} |  | {other.score} |" in text


def test_pictures_for_other_tools_are_a_folder_that_loads(digits, engine, tmp_path):
    small = made(digits, engine, tmp_path / "set", ipc=3)
    small.export(tmp_path / "pictures")
    again = attar.load(tmp_path / "pictures")
    assert again.classes == digits.classes
    assert len(again.train) + len(again.test) == 30


def test_learned_step_size_and_soft_labels_are_named(digits, engine, tmp_path):
    small = made(digits, engine, tmp_path / "hard", ipc=1)
    soft = dataclasses.replace(small, labels=0.1 * small.labels.new_ones(10, 10).float(), lr=0.02)
    soft.save(tmp_path / "soft")
    text = (tmp_path / "soft" / "README.md").read_text(encoding="utf-8")
    assert "Labels: probabilities of every class. Learned step size: 0.02." in text
