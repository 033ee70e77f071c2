"""Hugging Face Trainer: the examples of docs/guides/hugging-face-trainer.md, from which docs/scripts.py makes this file.

It needs transformers. All that it writes goes into a new folder.
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


import torch
from oodles import Classifier, OutlierExposure, TrainingStep
from oodles.data import load_suite
from transformers import Trainer, TrainerCallback, TrainingArguments, ViTConfig, ViTForImageClassification
from transformers import set_seed

suite = load_suite("digits")  # stands for your data
images, labels = torch.from_numpy(suite.train.images[:]).float(), torch.from_numpy(suite.train.labels)
outliers = torch.from_numpy(suite.outliers.images[:]).float()


def vision_transformer():
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return ViTForImageClassification(
        ViTConfig(image_size=8, patch_size=2, num_channels=1, num_labels=len(suite.classes), **sizes)
    )

class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return len(images)

    def __getitem__(self, row):
        other = int(torch.randint(len(outliers), ()))
        return {"pixel_values": images[row], "labels": labels[row], "outliers": outliers[other]}


class Moments(TrainerCallback):
    def on_epoch_begin(self, args, state, control, model=None, **others):
        model.start_epoch(int(state.epoch or 0), int(args.num_train_epochs))

    def on_optimizer_step(self, args, state, control, model=None, **others):
        model.after_update()


settings = TrainingArguments(
    output_dir="checkpoints",
    num_train_epochs=20,
    per_device_train_batch_size=16,
    learning_rate=3e-3,
    remove_unused_columns=False,
    save_strategy="epoch",
    save_total_limit=1,
    report_to="none",
    disable_tqdm=True,
    logging_strategy="no",
    use_cpu=True,
)

class OutlierTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        terms = model((inputs["pixel_values"], inputs["labels"]), inputs["outliers"])
        return sum(terms.values())


def new_step():
    set_seed(0)
    classifier = Classifier.split(vision_transformer(), "classifier", example=images[:4], output="logits")
    return TrainingStep(classifier, OutlierExposure())


step = new_step()
OutlierTrainer(step, settings, train_dataset=Rows(), callbacks=[Moments()]).train()
print(step.steps, "steps")

class Stop(TrainerCallback):
    def on_epoch_end(self, args, state, control, **others):
        control.should_training_stop = state.epoch >= 10


stopped, resumed = new_step(), new_step()
OutlierTrainer(stopped, settings, train_dataset=Rows(), callbacks=[Moments(), Stop()]).train()
trainer = OutlierTrainer(resumed, settings, train_dataset=Rows(), callbacks=[Moments()])
trainer.train(resume_from_checkpoint=True)
print(stopped.steps, resumed.steps)
print(all(torch.equal(one, other) for one, other in zip(step.parameters(), resumed.parameters())))

from oodles import Detector, Preprocessing, evaluate

classifier = step.classifier.eval()
ood_sets = {name: found.loader() for name, found in suite.ood_sets().items()}
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

model = classifier.join()
model.save_pretrained("vit")

shell('oodles adopt hf:vit --data digits --mean 0 --std 1 --to runs/vit')
shell('oodles evaluate runs/vit --score msp --score "knn(k=5)"')

class OutlierTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        terms = model((inputs["pixel_values"], inputs["labels"]), inputs["outliers"])
        return sum(terms.values())


classifier = Classifier.split(vision_transformer(), "classifier", example=images[:4], output="logits")
step = TrainingStep(classifier, OutlierExposure())
trainer = OutlierTrainer(step, settings, train_dataset=Rows(), callbacks=[Moments()])
trainer.train()
