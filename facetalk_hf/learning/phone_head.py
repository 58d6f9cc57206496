# SPDX-License-Identifier: MIT
"""A phone head refitted to a trained audio encoder, which stays as it is: loud, faint, in dead silence, in noise.

Nearly all that the encoder is trained on has noise in it, so that dead silence comes out as strange, not as a pause.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..audio.augmentation import Augmenter
from ..audio.log_mel import LogMelFeatureExtractor
from ..errors import FaceTalkError
from ..models.audio_encoder import LogMelEncoder
from .mouth_regression import RATE, Clip


CLIPS = 600
FRAMES = 4096
LEARNING_RATE = 2e-3


def refit_phone_head(
    model: LogMelEncoder, extractor: LogMelFeatureExtractor, corpora: Sequence[Sequence[Clip]], steps: int, seed: int
) -> None:
    """Train the phone head of an encoder alone, by cross-entropy on frames of up to 600 clips, as many of each corpus.

    Each clip is heard twice: at another level, half of the time with a faint hiss; and with rooms and noise. Half of
    the time it is heard with the longest look-ahead. AdamW at 2e-3, falling to 0; 4096 frames a step.

    Args:
        model ([`LogMelEncoder`]): changed in place. extractor ([`LogMelFeatureExtractor`]): that belongs to it.
        corpora: training clips of each. steps (`int`): updates. seed (`int`): all chance comes from it.

    Raises:
        FaceTalkError: an encoder without a phone head, or no clips.
    """
    if not model.config.num_phones:
        raise FaceTalkError("this audio encoder has no phone head that could be refitted")
    rng = np.random.default_rng([seed, 3])
    clips = [
        items[index]
        for items in corpora
        for index in rng.permutation(len(items))[: max(1, CLIPS // len(corpora))]
    ]  # fmt: skip
    if not clips:
        raise FaceTalkError("there are no training clips to refit the phone head on")
    training = model.training
    hidden, phones = _frames(model.eval(), extractor, clips, rng)
    model.train(training)
    head = model.phone_head
    optimizer = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in tqdm(range(steps), desc="phone head", disable=None):
        chosen = torch.randint(len(hidden), (FRAMES,), generator=generator)
        logits = head(hidden[chosen].float()).unflatten(-1, (2, -1)).flatten(0, 1)
        loss = F.cross_entropy(logits, phones[chosen].flatten(), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def _frames(
    model: LogMelEncoder, extractor: LogMelFeatureExtractor, clips: Sequence[Clip], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Encode variants of clips: features (F, A) half, phones of both halves of each frame (F, 2) int64."""
    augmenter = Augmenter([clip.audio for clip in clips[:: max(1, len(clips) // 60)]], RATE)
    longest, hidden, phones = max(model.look_aheads), [], []
    for clip in tqdm(clips, desc="clips for the phone head", disable=None):
        audio = clip.audio.astype(np.float32) / 32767
        faint = audio * 10 ** (rng.uniform(-24, 6) / 20)
        if rng.random() < 0.5:
            faint = faint + rng.standard_normal(len(faint)) * 10 ** (rng.uniform(-90, -50) / 20)
        for heard in (faint.clip(-1, 1).astype(np.float32), augmenter.disturb(audio, rng)):
            look_ahead = longest if rng.random() < 0.5 else int(rng.choice(model.look_aheads))
            columns = extractor.normalize(extractor.log_mel(heard))
            made = model(columns[None], look_ahead=look_ahead).last_hidden_state[0]
            hidden.append(made.half())
            phones.append(torch.from_numpy(clip.target(1.0, len(made), heard)[:, -2:]).long())
    return torch.cat(hidden), torch.cat(phones)
