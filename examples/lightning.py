"""Lightning: the examples of docs/guides/lightning.md, from which docs/scripts.py makes this file.

It needs lightning. All that it writes goes into a new folder.
"""

import os
import shlex
import sys
import tempfile

os.chdir(tempfile.mkdtemp(prefix="oodles-"))
sys.path[0] = os.getcwd()  # modules are looked for there
print("In", os.getcwd())

from oodles.cli import main


def shell(command):
    """Run a command as in a shell, and stop where it fails."""
    print("$", command)
    if code := main(shlex.split(command)[1:]):
        sys.exit(code)


import lightning
import torch
from oodles import Classifier, OutlierExposure, TrainingStep, pair
from oodles.data import load_suite
from torch import nn

suite = load_suite("digits")  # stands for your data
known = suite.train.loader(32, shuffle=True)
outliers = suite.outliers.loader(32, shuffle=True)


def classifier_of_digits():
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, len(suite.classes)))
    return Classifier.split(model, "6", example=torch.rand(4, *suite.input_shape))

class Module(lightning.LightningModule):
    def __init__(self, *methods, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.step = TrainingStep(classifier_of_digits(), *methods, seed=seed)

    def on_train_epoch_start(self):
        self.step.start_epoch(self.current_epoch, self.trainer.max_epochs)

    def training_step(self, batch, number):
        terms = self.step(*batch)
        self.log_dict({name: term.detach() for name, term in terms.items()}, batch_size=32)
        return sum(terms.values())

    def on_train_batch_end(self, outputs, batch, number):
        self.step.after_update()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.step.parameter_groups(3e-3))


def trainer(epochs):
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    return lightning.Trainer(max_epochs=epochs, accelerator="cpu", enable_checkpointing=False, **quiet)


module = Module(OutlierExposure())
training = trainer(epochs=10)
training.fit(module, pair(known, outliers))
print({name: round(float(value), 3) for name, value in training.callback_metrics.items()})

training.save_checkpoint("module.ckpt")
longer = Module(OutlierExposure())
trainer(epochs=20).fit(longer, pair(known, outliers), ckpt_path="module.ckpt")
print(module.step.steps, longer.step.steps)

from oodles import Detector, Preprocessing, adopt, evaluate

classifier = longer.step.classifier.eval()
ood_sets = {name: images.loader() for name, images in suite.ood_sets().items()}
print(evaluate(classifier, suite.test.loader(), ood_sets, ["msp", "energy"]))
detector = Detector.fit(
    classifier,
    suite.validation.loader(),
    score="msp",
    classes=suite.classes,
    preprocessing=Preprocessing(suite.input_shape),
)
print(detector)
detector.save("detector")
print(Detector.load("detector", classifier=classifier_of_digits()))

run = adopt(classifier, data="digits", folder="runs/lightning")
print(f"{run.label}, accuracy {run.result['test_accuracy']:.1%}")

class Module(lightning.LightningModule):
    def __init__(self, classifier):
        super().__init__()
        self.step = TrainingStep(classifier, OutlierExposure())

    def training_step(self, batch, number):
        return sum(self.step(*batch).values())

    def configure_optimizers(self):
        return torch.optim.AdamW(self.step.parameter_groups(3e-3))


trainer(epochs=2).fit(Module(classifier_of_digits()), pair(known, outliers))
