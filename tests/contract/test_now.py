"""What a moment of training may know, and in which order the moments come."""

import pytest

from oodles import Batch, Method, Part, TrainingStep

from .networks import batch, classifier


class Notes(Method):
    """Writes down what it is told at each moment."""

    terms = ("notes",)

    def __init__(self, name: str, notes: list[tuple[object, ...]]):
        super().__init__()
        self.name = name  # type: ignore[misc]  # two of them in one step
        self.notes = notes

    def change_batch(self, batch, now):  # type: ignore[no-untyped-def]
        self.notes.append((self.name, "change_batch", now.step, now.epoch, now.epochs, now.classifier))
        return batch

    def loss_terms(self, outputs, batch, now):  # type: ignore[no-untyped-def]
        self.notes.append((self.name, "loss_terms", now.classifier))
        return {}

    def after_update(self, outputs, batch, now):  # type: ignore[no-untyped-def]
        self.notes.append((self.name, "after_update", now.step, now.epoch, now.epochs, now.classifier))


class MoreNotes(Notes):
    """Replaces what only one method may replace."""

    terms = ("more_notes",)

    def change_weights(self, batch, gradient, now):  # type: ignore[no-untyped-def]
        self.notes.append((self.name, "change_weights", now.step, now.epoch, now.epochs, now.classifier))
        return batch

    def change_outputs(self, outputs, batch, now):  # type: ignore[no-untyped-def]
        self.notes.append((self.name, "change_outputs", now.classifier))
        return outputs

    def change_sum(self, terms, now):  # type: ignore[no-untyped-def]
        self.notes.append((self.name, "change_sum", now.classifier))
        return terms


def test_a_share_of_the_epochs_is_over_before_the_last_one() -> None:
    step = TrainingStep(classifier("vectors"))
    over = {}
    for share, epochs in ((0.0, 3), (0.4, 5), (0.5, 5), (0.9, 1), (0.99, 4)):
        over[share, epochs] = []
        for epoch in range(epochs):
            step.start_epoch(epoch, epochs)
            over[share, epochs].append(step._now().over(share))
    assert over == {
        (0.0, 3): [True] * 3,
        (0.4, 5): [False, False, True, True, True],
        (0.5, 5): [False, False, True, True, True],
        (0.9, 1): [True],
        (0.99, 4): [False, False, False, True],
    }


def test_every_moment_of_a_step_is_told_the_same() -> None:
    notes: list[tuple[object, ...]] = []
    net = classifier("vectors")
    step = TrainingStep(net, Notes("a", notes), MoreNotes("b", notes))
    step.epochs = 9
    expected = []
    for index, epoch in enumerate((0, 0, 1)):
        step.epoch = epoch
        step(batch("vectors"))
        step.after_update()
        for names, moment in (
            ("ab", "change_batch"),
            ("b", "change_weights"),
            ("b", "change_outputs"),
            ("ab", "loss_terms"),
            ("b", "change_sum"),
            ("ab", "after_update"),
        ):
            counted = () if moment in ("change_outputs", "loss_terms", "change_sum") else (index, epoch, 9)
            expected += [(name, moment, *counted, net) for name in names]
    assert notes == expected


def test_the_last_batch_of_an_epoch_is_looked_back_at_before_the_next_one_starts() -> None:
    notes: list[tuple[object, ...]] = []

    class Starts(Notes):
        def start_epoch(self, data, now):  # type: ignore[no-untyped-def]
            self.notes.append((self.name, "start_epoch", now.step, now.epoch))

    step = TrainingStep(classifier("vectors"), Starts("a", notes))
    for epoch in range(2):
        step.start_epoch(epoch, 2)
        step(batch("vectors"))
    moments = [(note[1], *note[2:4]) for note in notes if note[1] != "loss_terms"]
    assert moments == [
        ("start_epoch", 0, 0),
        ("change_batch", 0, 0),
        ("after_update", 0, 0),
        ("start_epoch", 1, 1),
        ("change_batch", 1, 1),
    ]


@pytest.mark.parametrize("what", ["step", "epoch", "epochs"])
def test_steps_and_epochs_are_not_counted_in_the_traced_half(what: str) -> None:
    class Looks(Method):
        name = "looks"
        terms = ("looks",)

        def loss_terms(self, outputs, batch, now):  # type: ignore[no-untyped-def]
            return {"looks": outputs.logits["id"].sum() * getattr(now, what)}

    with pytest.raises(RuntimeError, match="Steps and epochs are counted in change_batch"):
        TrainingStep(classifier("vectors"), Looks())(batch("vectors"))


def test_parts_and_batches() -> None:
    given = batch("tokens")
    assert len(given["id"]) == 6 and len(given["outliers"]) == 10
    assert "outliers" in given and "mixed" not in given
    with pytest.raises(KeyError):
        given["mixed"]
    with pytest.raises(AttributeError):
        given.parts = {}  # type: ignore[misc]
    with pytest.raises(AttributeError):
        given["id"].targets = None  # type: ignore[misc]


def test_a_batch_needs_in_distribution_rows() -> None:
    step = TrainingStep(classifier("vectors"))
    for wrong in (Batch({"outliers": batch("vectors")["id"]}), Batch({"id": Part(batch("vectors")["id"].inputs)})):
        with pytest.raises(ValueError, match="A batch must have a part 'id' with inputs and targets"):
            step(wrong)


@pytest.mark.parametrize("seed", [-1, 1.5, "0", None])
def test_a_wrong_seed_is_refused_when_the_step_is_built(seed: object) -> None:
    with pytest.raises((ValueError, TypeError), match="seed must be a whole number of at least 0, got"):
        TrainingStep(classifier("vectors"), seed=seed)  # type: ignore[arg-type]
