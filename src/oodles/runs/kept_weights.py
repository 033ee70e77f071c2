"""The weights that a run is tested with: the last ones, those of the best epoch, or a moving average of either."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from oodles.classifier import Classifier
from oodles.runs.recipe import Recipe


class KeptWeights(nn.Module):
    """What training keeps beside the weights that it changes; it is saved and restored with them.

    Args:
        classifier: the network that is trained.
        recipe: says what is kept: ``ema``, ``keep`` and ``patience``.
    """

    epoch: Tensor
    """The best epoch so far, from 0; −1 before the first."""
    accuracy: Tensor
    """Of that epoch, on the rows that may choose."""

    def __init__(self, classifier: Classifier, recipe: Recipe):
        super().__init__()
        self.recipe = recipe
        self.average = deepcopy(classifier).requires_grad_(False) if recipe.ema else None
        self.best = deepcopy(classifier).requires_grad_(False) if recipe.keep == "best" else None
        if recipe.chooses_epoch:
            self.register_buffer("epoch", torch.tensor(-1))
            self.register_buffer("accuracy", torch.tensor(-1.0, dtype=torch.float64))

    @torch.no_grad()
    def follow(self, classifier: Classifier, updates: int) -> None:
        """Move the average towards the weights after so many steps of the optimizer; its statistics, too."""
        if self.average is None:
            return
        # at first an average over few steps, or the initial weights would stay in it for long
        decay = min(self.recipe.ema, (1 + updates) / (10 + updates))
        weights = classifier.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(weights[name].to(value.dtype), 1 - decay)
            else:
                value.copy_(weights[name])

    def current(self, classifier: Classifier) -> Classifier:
        """Return the classifier that an epoch is judged by: the average, where there is one."""
        return classifier if self.average is None else self.average

    def judge(self, classifier: Classifier, epoch: int, accuracy: float) -> None:
        """Note an epoch if it is better than all before."""
        if not self.recipe.chooses_epoch or accuracy <= float(self.accuracy):
            return
        self.epoch.fill_(epoch)
        self.accuracy.fill_(accuracy)
        if self.best is not None:
            self.best.load_state_dict(self.current(classifier).state_dict())

    def exhausted(self, epochs: int) -> bool:
        """Say whether training ends after so many epochs, since too many of them brought nothing better."""
        return self.recipe.patience > 0 and epochs - 1 - int(self.epoch) >= self.recipe.patience

    def hand_over(self, classifier: Classifier) -> None:
        """Give a trained classifier the weights that are kept."""
        source = self.best or self.average
        if source is not None:
            classifier.load_state_dict(source.state_dict())
