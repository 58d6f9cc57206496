# SPDX-License-Identifier: MIT
"""Scores of anything that turns speech into expression codes against a corpus: one set for every model.

The truth is the corpus' own motion, which rules made: every score is agreement with those rules, not with captured
faces. docs/evaluation.md defines the scores; the formulas are in `metrics` and `motion_metrics`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..blendshapes import INDEX
from ..data.corpus import decode_audio, read
from ..errors import FaceTalkError
from ..head.blendshape_decoder import BlendshapeDecoder
from ..head.decoder import aperture
from ..head.regions import LIP_LANDMARKS, UPPER_LANDMARKS, region_masks
from ..phones.visemes import LIP_SEAL
from . import metrics, motion_metrics


if TYPE_CHECKING:
    from ..models.nphm import NPHMModel
    from ..pipeline.facetalk import FaceTalkPipeline
    from ..pipeline.large_ear import LargeEar


Predictor = Callable[[list[np.ndarray], list[int]], Sequence[np.ndarray | torch.Tensor]]
"""`predict(clips, seeds)`: B clips (S,) float32 at 16 kHz and a seed for each -> B arrays (N, D) of expression codes.
A deterministic model ignores the seeds. Codes are those of the head that `evaluate` is given."""

COLUMNS = ("id", "audio", "phones", "weights", "closure", "fps")
"""The fields of a corpus row that `evaluate` reads."""
CLOSED = 0.25  # of what the jaw leaves open between the lips: below it they are seen as shut
SHAPES = {"jaw": "jawOpen", "pucker": "mouthPucker", "funnel": "mouthFunnel", "bite": "mouthRollLower"}


def held_out_voices(corpus: str | Path, clips: int, split: str = "test") -> dict[str, list[dict[str, Any]]]:
    """Read the first clips of each voice in a split, with the fields that `evaluate` reads.

    Args:
        corpus (`str` or `Path`): folder of shards. clips (`int`): of each voice. split (`str`): the held-out voices.

    Raises:
        FaceTalkError: the split is empty.
    """
    voices: dict[str, list[dict[str, Any]]] = {}
    for row in read(corpus, (split,), COLUMNS):
        rows = voices.setdefault(row["id"].rsplit("-", 2)[0], [])
        if len(rows) < clips:
            rows.append(row)
    if not voices:
        raise FaceTalkError(f"{corpus} has no clips in its split {split!r}")
    return voices


class FixedMesh:
    """One mesh of a head that any codes are decoded to, for errors in mm.

    Args:
        head (`NPHMModel`): a head with a bilinear forward deformation.
        identity, resolution: as in `BlendshapeDecoder`; the mean head and 64 cells.
    """

    def __init__(self, head: "NPHMModel", identity: Any = None, resolution: int = 64):
        self.decoder = BlendshapeDecoder(head, resolution=resolution)
        self.identity = self.decoder.identity_code(identity)
        geometry = self.decoder.geometry(self.identity)
        masks = region_masks(geometry.base, geometry.landmarks, geometry.parts)
        # Eyeballs and teeth carry half of the vertices and no motion that speech asks for: only skin is measured.
        self.masks = {name: mask[masks["skin"]] for name, mask in masks.items()}
        self.base, self.rest = geometry.base[masks["skin"]], geometry.landmarks
        self._targets = geometry.targets[:, masks["skin"]].reshape(len(geometry.targets), -1)

    def __call__(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decode codes (T, D) into skin vertices (T, V, 3) and landmarks (T, 68, 3), float32 mm."""
        animation = self.decoder(codes, self.identity)
        assert animation.landmarks is not None  # every head with a bilinear deformation has them
        # The tongue's weights come after those of the codes, and no code moves it.
        moved = (animation.weights[:, : len(self._targets)] @ self._targets).reshape(len(codes), -1, 3)
        return moved + self.base, animation.landmarks


def pipeline_predictor(pipe: "FaceTalkPipeline", **settings: object) -> Predictor:
    """Make a [`Predictor`] of the whole pipeline; `settings` go to its call (guidance_scale, ...)."""

    def predict(clips: list[np.ndarray], seeds: list[int]) -> Sequence[torch.Tensor]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        options = {"sampling_rate": 16000, "generator": generators, "output_type": "expression"} | settings
        return pipe(clips, **options).expressions

    return predict


def phones_predictor(pipe: "FaceTalkPipeline", **settings: object) -> Callable[..., Sequence[torch.Tensor]]:
    """Make `predict(clips, seeds, phones)` of the whole pipeline, which is told the phones of each clip."""

    def predict(clips: list[np.ndarray], seeds: list[int], phones: Sequence[Any]) -> Sequence[torch.Tensor]:
        return pipeline_predictor(pipe, **settings, phones=list(phones))(clips, seeds)  # type: ignore[return-value]

    return predict


def large_ear_predictor(pipe: "FaceTalkPipeline", ear: "LargeEar", **settings: object) -> Predictor:
    """Make a [`Predictor`] of the whole pipeline, which is told the phones that a large ear hears."""

    def predict(clips: list[np.ndarray], seeds: list[int]) -> Sequence[np.ndarray | torch.Tensor]:
        heard = [ear(clip, 16000) for clip in clips]
        return pipeline_predictor(pipe, **settings, phones=heard)(clips, seeds)

    return predict


def regression_predictor(pipe: "FaceTalkPipeline") -> Predictor:
    """Make a [`Predictor`] of the deterministic prediction of the pipeline's own audio encoder.

    Raises:
        FaceTalkError: the encoder predicts no motion, or the pipeline has no head.
    """
    head = pipe.head
    if head is None:
        raise FaceTalkError("this pipeline has no head whose codes could be predicted")
    if not hasattr(pipe.audio_encoder, "predict_motion"):
        raise FaceTalkError("the audio encoder of this pipeline predicts no motion by itself")

    @torch.no_grad()
    def predict(clips: list[np.ndarray], seeds: list[int]) -> list[torch.Tensor]:
        result = []
        for clip in clips:
            features = pipe.encode_audio(torch.from_numpy(clip), sampling_rate=16000)
            weights = pipe.audio_encoder.predict_motion(features)[0][0].float().clamp(0, 1)
            result.append(head.expression_from_weights(weights))
        return result

    return predict


@torch.no_grad()
def evaluate(
    predict: Predictor,
    rows: Sequence[dict[str, Any]],
    head: "NPHMModel",
    samples: int = 1,
    batch: int = 8,
    seed: int = 0,
    window: int | None = None,
    mesh: FixedMesh | None = None,
) -> dict[str, float]:
    """Compute all scores of a model on some clips. The same arguments give the same numbers.

    Args:
        predict ([`Predictor`]): the model.
        rows: rows of a corpus with the fields in `COLUMNS`, see `corpus.read`.
        head (`NPHMModel`): the head that the codes are of, with `expression_names`.
        samples (`int`, *optional*, defaults to 1): K motions of each clip, seeds `seed + index + 100000 k`. From 2 on
            there are also diversity, and coverage (`_min`) and mean estimate (`_mean_estimate`) of the vertex errors.
        batch (`int`, *optional*, defaults to 8): clips given to `predict` at once.
        seed (`int`, *optional*, defaults to 0): see `samples`.
        window (`int`, *optional*): frames of the windows that the model puts a motion together from; gives `seam`.
        mesh ([`FixedMesh`], *optional*): what to measure on, kept from one call to the next; the head's mean head.

    Returns:
        dict of `float`, see docs/evaluation.md. Correlations and F1 are over all frames of all samples.

    Raises:
        FaceTalkError: no rows, a head whose codes cannot be read as weights, codes of another size or length.
    """
    if not rows:
        raise FaceTalkError("there are no clips to evaluate on")
    if head.config.expression_names is None:
        raise FaceTalkError("this head has no named shapes, so its codes cannot be compared with the corpus")
    clips = [decode_audio(row) for row in rows]
    made = _predict(predict, rows, clips, samples, batch, seed, head.config.expression_dim)
    basis = head.expression_basis.float().cpu().numpy()
    weights = [[(codes @ basis).clip(0, 1) for codes in drawn] for drawn in made]
    return _shape_scores(rows, weights) | _mesh_scores(mesh or FixedMesh(head), rows, clips, made, basis, window)


def _predict(
    predict: Predictor, rows: Sequence[dict[str, Any]], clips: list[np.ndarray], samples: int, batch: int, seed: int,
    size: int,
) -> list[list[np.ndarray]]:  # fmt: skip
    """Predict codes (T, D) float32 of each clip and sample, T that of the row."""
    made: list[list[np.ndarray]] = [[] for _ in rows]
    order = sorted(range(len(rows)), key=lambda index: len(clips[index]))  # like lengths pad little
    for k in range(samples):
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            codes = predict([clips[i] for i in part], [seed + i + 100_000 * k for i in part])
            for i, item in zip(part, codes, strict=True):
                item = item.detach().float().cpu().numpy() if isinstance(item, torch.Tensor) else np.asarray(item)
                wanted = (len(rows[i]["weights"]), size)
                if item.shape != wanted:
                    raise FaceTalkError(f"clip {rows[i]['id']}: the prediction has shape {item.shape}, not {wanted}")
                made[i].append(item.astype(np.float32))
    return made


def weight_aperture(weights: np.ndarray) -> np.ndarray:
    """Compute the opening of the lips (T,) of blendshape weights (T, 53), in units of the jawOpen weight."""
    return metrics.lip_aperture(weights[:, INDEX["jawOpen"]], weights[:, INDEX["mouthClose"]], LIP_SEAL)


def lips_closed(weights: np.ndarray) -> np.ndarray:
    """Select frames (T,) bool of weights (T, 53) with closed lips over an open jaw; not those of a mouth at rest."""
    jaw = weights[:, INDEX["jawOpen"]]
    return (jaw > 0.02) & (weight_aperture(weights) < CLOSED * np.maximum(jaw, 1e-6))


def silent_frames(row: dict[str, Any]) -> np.ndarray:
    """Select frames (T,) bool of a corpus row whose middle lies in no phone but a pause."""
    times = (np.arange(len(row["weights"])) + 0.5) / row["fps"]
    result = np.ones(len(times), bool)
    for phone in row["phones"]:
        if phone["phone"] != "pau":
            result &= (times < phone["start"]) | (times > phone["end"])
    return result


def _shape_scores(rows: Sequence[dict], weights: list[list[np.ndarray]]) -> dict[str, float]:
    pairs = [(row, item) for row, drawn in zip(rows, weights, strict=True) for item in drawn]
    both, target = (np.concatenate(x) for x in ([item for _, item in pairs], [row["weights"] for row, _ in pairs]))
    result = {"aperture": metrics.correlation(weight_aperture(both), weight_aperture(target))}
    result |= {name: metrics.correlation(both[:, INDEX[key]], target[:, INDEX[key]]) for name, key in SHAPES.items()}
    hit = np.concatenate([row["closure"] for row, _ in pairs]) > 0.5
    result["f1"] = metrics.closure_score(lips_closed(both), hit)["f1"]
    result["f1_1"] = metrics.closure_score(lips_closed(both), hit, tolerance=1)["f1"]
    lags = [metrics.lag(weight_aperture(item), weight_aperture(row["weights"])) for row, item in pairs]
    result["lag"], result["lag_worst"] = float(np.median(lags)), float(max(lags, key=abs))
    spread = weight_aperture(target).std()
    result["open_ratio"] = float(weight_aperture(both).std() / spread) if spread > 0 else 1.0
    return result


def _mesh_scores(
    mesh: FixedMesh, rows: Sequence[dict[str, Any]], clips: list[np.ndarray], made: list[list[np.ndarray]],
    basis: np.ndarray, window: int | None,
) -> dict[str, float]:  # fmt: skip
    """Compute the scores in mm.

    Per-frame errors are pooled over frames; FDD and what describes a clip are averaged over clips.
    """
    errors, motion = [], []
    for row, clip, drawn in zip(rows, clips, made, strict=True):
        target, true_points = mesh(row["weights"] @ basis.T)
        vertices, points = (np.stack(x) for x in zip(*[mesh(codes) for codes in drawn], strict=True))
        errors.append(_errors(mesh, vertices, points, target, true_points))
        lips, fps = mesh.masks["lips"], float(row["fps"])
        onsets = motion_metrics.audio_onsets(clip, 16000)
        rest, quiet = aperture(mesh.rest), silent_frames(row)
        values = {
            "diversity": motion_metrics.diversity(vertices),
            "diversity_lips": motion_metrics.diversity(vertices[:, :, lips]),
            "silence": np.max([metrics.silence_aperture(aperture(item) - rest, quiet) for item in points]),
            "speed": np.mean([motion_metrics.speed(item[:, lips], fps) for item in vertices]),
            "speed_target": motion_metrics.speed(target[:, lips], fps),
            "jerk": np.mean([motion_metrics.jerk(item[:, lips], fps) for item in vertices]),
            "jerk_target": motion_metrics.jerk(target[:, lips], fps),
        }
        for name, items in (("beats", vertices[:, :, lips]), ("beats_target", target[None, :, lips])):
            values[name] = np.mean(
                [motion_metrics.beat_alignment(onsets, motion_metrics.motion_beats(item, fps)) for item in items]
            )
        if window:
            seams = range(window, len(target), window)
            values["seam"] = np.mean([motion_metrics.seam_speed_ratio(item, seams) for item in vertices])
        motion.append(values)
    frames = np.array([len(row["weights"]) for row in rows], float)
    result = {}
    for name in errors[0]:
        pooled = not name.startswith("fdd")
        for kind in ("mean", "min", "mean_estimate") if len(made[0]) > 1 else ("mean",):
            found = [error[name][kind] for error in errors]
            key = name if kind == "mean" else f"{name}_{kind}"
            result[key] = float(np.average(found, weights=frames if pooled else None))
    for name in motion[0]:
        found = [item[name] for item in motion]
        result[name] = float(np.max(found) if name == "silence" else np.mean(found))
    if len(made[0]) == 1:
        del result["diversity"], result["diversity_lips"]
    result["lve_root_mean"] = float(np.sqrt(result["lve_squared"]))
    return result


def _errors(
    mesh: FixedMesh, vertices: np.ndarray, points: np.ndarray, target: np.ndarray, true_points: np.ndarray
) -> dict[str, dict[str, float]]:
    """Compute mean, min and mean estimate of each error of one clip's K samples.

    Vertices (K, T, V, 3) and points (K, T, 68, 3) are compared with target (T, V, 3) and true_points (T, 68, 3).
    """
    lips, upper = mesh.masks["lips"], mesh.masks["upper_face"]
    result = {"mve": metrics.sample_statistics(metrics.mean_vertex_error, vertices, target)}
    for suffix, items, true, rest, where, above in (
        ("", vertices, target, mesh.base, lips, upper),
        ("_landmarks", points, true_points, mesh.rest, np.array(LIP_LANDMARKS), np.array(UPPER_LANDMARKS)),
    ):
        for form in ("squared", "rooted"):
            error = partial(metrics.lip_vertex_error, lips=where, form=form)
            result[f"lve_{form}{suffix}"] = metrics.sample_statistics(error, items, true)
        for name, absolute in (("fdd", False), ("fdd_absolute", True)):
            error = partial(metrics.face_dynamics_deviation, neutral=rest, upper=above, absolute=absolute)
            result[name + suffix] = metrics.sample_statistics(error, items, true)
    return result
