"""What methods do to the classifier: once, where it is, from the step's seed, and so that it can be built again."""

import pytest
import torch
from torch import Tensor, nn

from oodles import (
    ARPL,
    EDL,
    BackgroundClass,
    Batch,
    Classifier,
    LogitNorm,
    ManifoldMixup,
    Method,
    OutlierExposure,
    Outputs,
    Part,
    TrainingStep,
    evaluate,
)
from oodles.contract import Now, Rows, Terms
from oodles.methods import score_named, scores_of
from oodles.methods.edl import log_concentration

from .networks import batch, classifier, inputs, labels, tensors
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import is_one_sentence, total


class NeedsAnother(Method):
    """Refuses every classifier."""

    name = "needs-another"

    def change_classifier(self, classifier: Classifier) -> None:
        raise ValueError("another one")


def outputs_of(net: Classifier, kind: str) -> dict[str, Tensor]:
    """Return logits and outputs of further heads in eval mode."""
    net.eval()
    with torch.no_grad():
        features = net.features(inputs(kind, 5, seed=4, dtype=next(net.parameters()).dtype))
        return {"logits": net.head(features), **{name: head(features) for name, head in net.heads.items()}}


def check_changed_once(row: Row, kind: str) -> None:
    """Check that a second step changes nothing more, and that new weights depend on the seed alone."""
    net = classifier(kind)
    before = torch.get_rng_state()
    TrainingStep(net, *row.methods(), seed=3)
    assert torch.equal(torch.get_rng_state(), before), "drew global random numbers"
    state, once = {name: value.clone() for name, value in net.state_dict().items()}, outputs_of(net, kind)
    TrainingStep(net, *row.methods(), seed=3)
    assert net.state_dict().keys() == state.keys(), "changed twice"
    for name, value in outputs_of(net, kind).items():
        assert torch.equal(value, once[name]), f"{name} changed twice"
    again = classifier(kind)
    torch.manual_seed(99)
    TrainingStep(again, *row.methods(), seed=3)
    for name, value in again.state_dict().items():
        assert torch.equal(value, state[name]), f"{name} does not depend on the seed alone"


def check_built_again(row: Row, kind: str) -> None:
    """Check that a new network that the method changes takes the trained weights and gives the same scores."""
    net = classifier(kind, noisy=True).train()
    step = TrainingStep(net, *row.methods())
    optimizer = torch.optim.SGD(step.parameter_groups(0.05), momentum=0.9)
    for seed in range(3):
        optimizer.zero_grad()
        total(step(batch(kind, seed=seed))).backward()
        optimizer.step()
    fresh = classifier(kind, noisy=True, seed=8)
    row.make().change_classifier(fresh)
    fresh.load_state_dict(net.state_dict())
    expected, outputs = outputs_of(net, kind), outputs_of(fresh, kind)
    assert outputs["logits"].shape[:2] == (5, net.num_classes), "logits of the classes and nothing else"
    assert outputs.keys() == expected.keys()
    for name, value in outputs.items():
        assert torch.equal(value, expected[name]), name
    if kind == "dense":
        return
    for score in {row.cls.score, *scores_of(row.cls.name)}:
        if kind == "tokens" and score_named(score).differentiates:
            continue  # there is no slope in token ids
        loaders = [(inputs(kind, 12, seed=1), labels(kind, 12, seed=1))], {"ood": [inputs(kind, 5, seed=2)]}
        train = [(inputs(kind, 12), labels(kind, 12))]
        first, second = (evaluate(network, *loaders, [score], train).scores for network in (net, fresh))
        for name in ("id", "ood"):
            assert first[name][score].tolist() == second[name][score].tolist(), f"{score} of {name}"


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_a_classifier_is_changed_once(name: str, kind: str) -> None:
    check_changed_once(ROWS[name], kind)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_a_trained_classifier_is_built_again(name: str, kind: str) -> None:
    check_built_again(ROWS[name], kind)


@pytest.mark.parametrize("name", ROWS)
def test_new_parts_are_as_wide_as_the_classifier(name: str) -> None:
    kind = ROWS[name].kinds[0]
    net = classifier(kind, dtype=torch.float64)
    TrainingStep(net, *ROWS[name].methods())
    assert {value.dtype for value in net.state_dict().values() if value.is_floating_point()} == {torch.float64}


@pytest.mark.parametrize("name", ROWS)
def test_every_parameter_is_in_one_group(name: str) -> None:
    kind = ROWS[name].kinds[0]
    step = TrainingStep(classifier(kind), *ROWS[name].methods())
    grouped = [id(parameter) for group in step.parameter_groups(0.1) for parameter in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in step.parameters())


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if scores_of(row.cls.name)])
def test_scores_of_a_method_refuse_a_plain_classifier(name: str) -> None:
    kind = ROWS[name].kinds[0]
    for score in scores_of(name):
        if not score_named(score).needs_heads:
            continue
        with pytest.raises(ValueError, match=f"{score} looks at a head") as refusal:
            evaluate(classifier(kind), [inputs(kind, 4)], {}, [score])
        assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize(
    "methods", [(ARPL(), BackgroundClass(), ManifoldMixup(at=("nope",))), (BackgroundClass(), ARPL(), NeedsAnother())]
)
def test_a_classifier_that_is_refused_is_handed_back_as_it_was(methods: tuple[Method, ...]) -> None:
    net = classifier("vectors")
    head, state = net.head, set(net.state_dict())
    with pytest.raises(ValueError):
        TrainingStep(net, *methods)
    assert net.head is head and not net.heads and set(net.state_dict()) == state
    assert torch.equal(net(inputs("vectors", 3)), classifier("vectors")(inputs("vectors", 3)))


class OwnRate(Method):
    """The head learns ten times as fast, and does not decay."""

    name = "own-rate"

    def parameter_groups(self, classifier):  # type: ignore[no-untyped-def]
        return [{"params": classifier.head.parameters(), "learning_rate": 10.0, "weight_decay": 0.0}]


class OwnDecay(OwnRate):
    name = "own-decay"


def test_parameters_with_settings_of_their_own() -> None:
    step = TrainingStep(classifier("vectors"), OwnRate())
    plain, own = step.parameter_groups(0.1)
    assert own["lr"] == pytest.approx(1.0) and own["weight_decay"] == 0.0 and "weight_decay" not in plain
    assert {id(p) for p in own["params"]} == {id(p) for p in step.classifier.head.parameters()}
    assert {id(p) for p in plain["params"]} == {id(p) for p in step.classifier.backbone.parameters()}
    optimizer = torch.optim.SGD([plain, own], weight_decay=0.1)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]


def test_two_methods_that_want_other_settings_are_refused() -> None:
    step = TrainingStep(classifier("vectors"), OwnRate(), OwnDecay())
    with pytest.raises(ValueError, match="own-decay and own-rate both have settings for one parameter") as refusal:
        step.parameter_groups(0.1)
    assert is_one_sentence(str(refusal.value))


def test_further_heads() -> None:
    net = classifier("dense", dtype=torch.float64)
    head = net.add_head("further", 3)
    assert net.add_head("further", 3) is head and isinstance(head, nn.Conv2d) and head.weight.dtype == torch.float64
    with pytest.raises(ValueError, match=r"has a head 'further' of sizes \[7, 3\], and \[7, 2\] are wanted") as refusal:
        net.add_head("further", 2)
    assert is_one_sentence(str(refusal.value))
    net.heads["own"] = nn.Sequential(nn.Identity())
    with pytest.raises(ValueError, match=r"has a head 'own' of sizes \[None, None\], and \[7, 2\] are wanted"):
        net.add_head("own", 2)
    unknown = Classifier(nn.Flatten(), nn.Sequential(nn.Linear(6, 4)), num_classes=4)
    with pytest.raises(ValueError, match="num_features must be known") as refusal:
        unknown.add_head("further", 1)
    assert is_one_sentence(str(refusal.value))
    assert Classifier(nn.Flatten(), unknown.head, num_classes=4, num_features=6).add_head("further", 1)


class Doubles(Method):
    """Doubles what the first layer says of in-distribution rows."""

    name = "doubles"

    def layers(self, classifier: Classifier) -> tuple[str, ...]:
        return ("0",)

    def change_hidden(self, hidden: Tensor, layer: str, rows: Rows, batch: Batch) -> Tensor:
        assert layer == "0" and rows["id"] == slice(0, 6)
        return torch.cat([2 * hidden[rows["id"]], hidden[6:]])


def test_hidden_results_change_inside_a_step_and_nowhere_else() -> None:
    net = classifier("vectors")
    given = batch("vectors")
    before = net(given["id"].inputs)
    step = TrainingStep(net, Doubles(), OutlierExposure())
    plain = TrainingStep(classifier("vectors"), OutlierExposure())
    terms, expected = step(given), plain(given)
    assert torch.equal(terms["outlier_exposure"], expected["outlier_exposure"])
    hidden = 2 * net.backbone[0](given["id"].inputs)  # type: ignore[index]
    logits = net.head(torch.tanh(hidden))
    torch.testing.assert_close(
        terms["cross_entropy"], nn.functional.cross_entropy(logits, given["id"].targets), rtol=1e-6, atol=1e-7
    )
    assert torch.equal(net(given["id"].inputs), before), "outside of a step"


class Squares(Method):
    """Makes the loss its square."""

    name = "squares"
    terms = ("squares",)

    def change_sum(self, terms: Terms, now: Now) -> Terms:
        loss = torch.stack(list(terms.values())).sum()
        return {**terms, "squares": loss**2 - loss}


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_the_sum_is_changed_when_all_terms_are_there(order: tuple[int, int]) -> None:
    methods = [Squares(), OutlierExposure()]
    given = batch("vectors")
    loss = total(TrainingStep(classifier("vectors"), *(methods[index] for index in order))(given))
    plain = total(TrainingStep(classifier("vectors"), OutlierExposure())(given))
    assert loss.item() == pytest.approx(plain.item() ** 2, rel=1e-6)


class Counts(Method):
    """Adds up what it sees after each update."""

    name = "counts"
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        assert not torch.is_grad_enabled() and not outputs.logits["id"].requires_grad
        self.seen += outputs.logits["id"].sum() + len(batch["id"]) + now.step


def test_methods_look_back_once_after_each_batch() -> None:
    def train(asked: bool) -> Tensor:
        method = Counts()
        step = TrainingStep(classifier("vectors"), method)
        for seed in range(3):
            total(step(batch("vectors", seed=seed))).backward()
            if asked:
                step.after_update()
                step.after_update()
        return step.state_dict()["methods.0.seen"]

    assert torch.equal(train(True), train(False))
    nets = classifier("vectors")
    with torch.no_grad():
        expected = sum(nets(batch("vectors", seed=seed)["id"].inputs).sum().item() + 6 + seed for seed in range(3))
    assert train(True).item() == pytest.approx(expected, rel=1e-5)


def test_a_restored_step_does_not_look_back_at_what_came_before() -> None:
    step, fresh = (TrainingStep(classifier("vectors"), Counts()) for _ in range(2))
    state = {name: value.clone() for name, value in fresh.state_dict().items()}
    step(batch("vectors"))
    step.load_state_dict(state)
    assert step.state_dict()["methods.0.seen"] == 0


def test_methods_look_back_in_full_precision() -> None:
    dtypes = []

    class Looks(Counts):
        def after_update(self, outputs, batch, now):  # type: ignore[no-untyped-def]
            z = outputs.logits["id"]
            dtypes.append((z @ z.T).dtype)

    step = TrainingStep(classifier("vectors"), Looks())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        step(batch("vectors"))
        step(batch("vectors"))
    assert dtypes == [torch.float32]


def test_hidden_results_are_left_alone_after_a_forward_pass_that_failed() -> None:
    net = classifier("vectors")
    x = inputs("vectors", 6)
    before = net(x)
    step = TrainingStep(net, Doubles())
    hook = net.backbone.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        step(batch("vectors"))
    hook.remove()
    assert torch.equal(net(x), before)


def test_heads_that_nobody_asks_for_are_not_run() -> None:
    net = classifier("vectors")
    net.add_head("further", 2).register_forward_hook(lambda *_: 1 / 0)
    total(TrainingStep(net)(batch("vectors"))).backward()
    assert all(parameter.grad is None for parameter in net.heads.parameters())


def test_looking_back_compiles_from_inside_and_outside() -> None:
    for inside in (True, False):
        torch._dynamo.reset()
        eager = TrainingStep(classifier("vectors"), Counts())
        compiled = TrainingStep(classifier("vectors"), Counts())
        if inside:
            compiled.compile(backend="aot_eager")
        run = compiled if inside else torch.compile(compiled, backend="aot_eager")
        for seed in range(3):
            given = batch("vectors", seed=seed)
            torch.testing.assert_close(total(run(given)), total(eager(given)), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(compiled.state_dict()["methods.0.seen"], eager.state_dict()["methods.0.seen"])


KEPT = {"ish": 1.0, "t2fnorm": 10.0, "ascood": 0.5}
"""The methods that put another head in place which gives the logits of the old one, and what features are times."""
NEW = ("arpl", "duq", "g-odin", "isomax", "isomax-plus", "mos", "sngp")
"""The methods whose head has new weights of its own."""


@pytest.mark.parametrize("name", ROWS)
def test_a_head_is_left_alone_or_kept_or_replaced_on_purpose(name: str) -> None:
    method = ROWS[name].make()
    net = classifier(ROWS[name].kinds[0])
    head, x = net.head, torch.randn(5, net.num_features)
    method.change_classifier(net)
    if net.dense or net.head is head:
        assert "head" not in method.replaces and name not in (*KEPT, *NEW)
    elif name in KEPT:
        for training in (True, False):
            torch.testing.assert_close(net.train(training).head(x), head(KEPT[name] * x), rtol=1e-5, atol=1e-5)
    elif name in NEW:
        assert not {id(parameter) for parameter in head.parameters()} & {id(p) for p in net.head.parameters()}
    else:
        assert isinstance(method, EDL), "whose logits are a function of the old ones"
        torch.testing.assert_close(net.head.train()(x), log_concentration(head(x), method.evidence))
    if net.head is not head:
        assert "head" in method.replaces


class Takes(Method):
    """Puts a head in place and does not say so."""

    name = "takes"

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.head = nn.Linear(classifier.num_features, classifier.num_classes)


def test_a_head_that_is_replaced_without_saying_so_is_refused() -> None:
    net = classifier("vectors")
    head = net.head
    with pytest.raises(
        ValueError, match="takes puts Linear in the place of the last layer and does not say"
    ) as refusal:
        TrainingStep(net, Takes())
    assert is_one_sentence(str(refusal.value)) and net.head is head


def test_dense_heads_are_refused_where_features_must_be_vectors() -> None:
    class Vectors(LogitNorm):
        needs = ("vectors",)

    with pytest.raises(ValueError, match=r"logit-norm needs features of shape \(N, F\)") as refusal:
        TrainingStep(classifier("dense"), Vectors())
    assert is_one_sentence(str(refusal.value))


def test_parts_of_a_batch_are_untouched() -> None:
    given = batch("vectors")
    more = given.with_part("further", Part(tensors(given["id"].inputs)[0]))
    assert "further" in more and "further" not in given


def test_layers_without_sizes_are_refused_until_they_have_some() -> None:
    lazy = Classifier(torch.nn.Flatten(), torch.nn.LazyLinear(3))
    with pytest.raises(ValueError, match="layers whose sizes are not known yet: call it on a batch first"):
        TrainingStep(lazy)
    lazy(torch.rand(2, 5))
    assert TrainingStep(lazy)((torch.rand(2, 5), torch.tensor([0, 2])))["cross_entropy"].isfinite()
