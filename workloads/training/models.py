"""The models that can be trained, each built from its part of the configuration. All return logits."""

import torch.nn.functional as F
from torch import Tensor, nn

from workloads.training.config import DeepseekV3, ImageClassifier

# Shape letters: B examples, S positions of a sequence, V the vocabulary, C classes, H height, W width.


def build(config: ImageClassifier | DeepseekV3) -> nn.Module:
    """Return the model with its first weights, which the random numbers decide."""
    return Classifier(config) if isinstance(config, ImageClassifier) else LanguageModel(config)


class Classifier(nn.Module):
    """Two convolutions and a linear head."""

    def __init__(self, config: ImageClassifier) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, config.channels, 3, padding=1)
        self.second = nn.Conv2d(config.channels, config.channels, 3, padding=1)
        self.head = nn.Linear(config.channels * (config.side // 2) ** 2, config.classes)

    def forward(self, x_BHW: Tensor) -> Tensor:
        x = F.relu(self.first(x_BHW.unsqueeze(1)))
        x = F.max_pool2d(F.relu(self.second(x)), 2)
        logits_BC: Tensor = self.head(x.flatten(1))
        return logits_BC


class LanguageModel(nn.Module):
    """DeepSeek-V3 as transformers has it, without a cache of keys and values: training needs none."""

    def __init__(self, config: DeepseekV3) -> None:
        super().__init__()
        from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

        values = config.model_dump(exclude={"kind"})
        heads = config.num_attention_heads
        self.model = DeepseekV3ForCausalLM(DeepseekV3Config(**values, num_key_value_heads=heads, use_cache=False))

    def forward(self, x_BS: Tensor) -> Tensor:
        logits_BSV: Tensor = self.model(input_ids=x_BS).logits
        return logits_BSV
