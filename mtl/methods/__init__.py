"""Methods of multi-task fine-tuning: a LightningModule for each."""

from mtl.methods.adapters import Adapters
from mtl.methods.base import MultiTaskModule
from mtl.methods.ca_mtl import CAMTL
from mtl.methods.domain_adversarial import DomainAdversarial
from mtl.methods.joint import Joint
from mtl.methods.lora import LoRA
from mtl.methods.mft import MetaFineTuning
from mtl.methods.mtl_lora import MTLLoRA
from mtl.methods.multi_head import MultiHead
from mtl.methods.pals import PALs
from mtl.methods.prompt import PromptBasedFineTuning
from mtl.methods.separate import Separate
from mtl.methods.task_layers import TaskLayers

__all__ = [
    "CAMTL",
    "Adapters",
    "DomainAdversarial",
    "Joint",
    "LoRA",
    "MTLLoRA",
    "MetaFineTuning",
    "MultiHead",
    "MultiTaskModule",
    "PALs",
    "PromptBasedFineTuning",
    "Separate",
    "TaskLayers",
]
