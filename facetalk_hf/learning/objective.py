# SPDX-License-Identifier: MIT
"""The loss that the denoiser is trained with: the paper's, with additions and weights by choice."""

import torch
from diffusers.schedulers.scheduling_ddpm import DDPMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler

from ..models.denoiser import FaceTalkDenoiser


NUM_TIMESTEPS = 1000
BETA_SCHEDULE = "squaredcos_cap_v2"


def sampling_scheduler() -> DPMSolverMultistepScheduler:
    """Make the scheduler that is saved with a trained denoiser."""
    return DPMSolverMultistepScheduler(
        NUM_TIMESTEPS, beta_schedule=BETA_SCHEDULE, prediction_type="sample", timestep_spacing="trailing"
    )


class DiffusionObjective:
    r"""Noise a batch, predict, compare (FaceTalk, section 4): w(t) (||x_0 - G(x_t, t, A)||^2 + additions).

    Args:
        denoiser ([`FaceTalkDenoiser`]): gives the normalisation, and says whether it wants to know the intensity.
        velocity_weight (`float`, *optional*, defaults to 0): of `velocity_loss`.
        matrix ((D, K) float, *optional*): errors of codes @ matrix count as well, see `squared_error`.
        matrix_weight (`float`, *optional*, defaults to 1): of the errors in the space of `matrix`.
        snr_gamma (`float`, *optional*): w(t) = min(SNR(t), gamma) (Hang et al. 2023, for the prediction of x_0)
            instead of 1. It lowers the weight of the timesteps that are nearly all noise.
        device: of the batches.
        pose_weight (`float`, *optional*, defaults to 0.2): of the same errors of the head's poses, for a denoiser that
            makes them. Frames whose pose is not known (NaN) do not count.
    """

    def __init__(
        self,
        denoiser: FaceTalkDenoiser,
        velocity_weight: float = 0.0,
        matrix: torch.Tensor | None = None,
        matrix_weight: float = 1.0,
        snr_gamma: float | None = None,
        device: torch.device | str = "cpu",
        pose_weight: float = 0.2,
    ) -> None:
        self.noise_schedule = DDPMScheduler(
            NUM_TIMESTEPS, beta_schedule=BETA_SCHEDULE, prediction_type="sample", clip_sample=False
        )
        # add_noise would copy the table from the CPU at every step.
        alphas = self.noise_schedule.alphas_cumprod = self.noise_schedule.alphas_cumprod.to(device)
        self.weights = None if snr_gamma is None else (alphas / (1 - alphas)).clamp(max=snr_gamma)
        self.tell_intensity = denoiser.config.intensity_range is not None
        self.mean, self.std = denoiser.code_mean.to(device), denoiser.code_std.to(device)
        self.tell_conditions = bool(denoiser.config.condition_names)
        self.code_dim, self.pose_dim, self.pose_weight = len(self.mean), denoiser.config.pose_dim, pose_weight
        if self.pose_dim:
            self.pose_mean, self.pose_std = denoiser.pose_mean.to(device), denoiser.pose_std.to(device)
        self.velocity_weight, self.matrix_weight = velocity_weight, matrix_weight
        self.matrix = None if matrix is None else normalized_matrix(matrix.float().to(device), self.std)

    def __call__(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Compute the loss of each segment of a [`SegmentDataset`]'s batch, (B,) float.

        `model` is called as the denoiser is; it may be wrapped.
        """
        mask = None if batch["frame_mask"].all() else batch["frame_mask"]
        target = self.targets(batch)
        noisy = self.noise_schedule.add_noise(target.nan_to_num(), self.noise(batch), batch["timestep"])
        inputs = (noisy, batch["timestep"], batch["audio"], mask, batch["audio_keep"])
        loss = self.compare(model(*inputs, return_dict=False, **self.told(batch))[0].float(), target, mask)
        return loss if self.weights is None else loss * self.weights[batch["timestep"]]

    def targets(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Normalise codes and poses of a batch: (B, N, D + P) float, NaN where a pose is not known."""
        codes = (batch["codes"] - self.mean) / self.std
        if not self.pose_dim:
            return codes
        poses = batch.get("poses")
        poses = codes.new_full((*codes.shape[:2], self.pose_dim), float("nan")) if poses is None else poses
        return torch.cat((codes, (poses - self.pose_mean) / self.pose_std), dim=-1)

    def noise(self, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Take the noise of a batch, with more of it where the denoiser makes poses as well."""
        if not self.pose_dim:
            return batch["noise"]
        more = batch.get("pose_noise")  # clips without any pose have none: nothing is learnt of them there
        more = batch["noise"].new_zeros(*batch["noise"].shape[:2], self.pose_dim) if more is None else more
        return torch.cat((batch["noise"], more), dim=-1)

    def told(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor | None]:
        """Take what the denoiser is told beside the sound, as arguments of its `forward`."""
        known: dict[str, torch.Tensor | None] = {"intensity": batch["intensity"]} if self.tell_intensity else {}
        return known | ({"conditions": batch.get("conditions")} if self.tell_conditions else {})

    def compare(
        self, prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compare normalised samples, whatever predicted them: (B, N, C), (B, N, C), (B, N) -> (B,) float."""
        poses = prediction[..., self.code_dim :], target[..., self.code_dim :]
        prediction, target = prediction[..., : self.code_dim], target[..., : self.code_dim]
        loss = sample_loss(prediction, target, mask)
        if self.velocity_weight:
            loss = loss + self.velocity_weight * velocity_loss(prediction, target, mask)
        if self.matrix is not None:
            loss = loss + self.matrix_weight * sample_loss(prediction, target, mask, self.matrix)
        if self.pose_dim:
            loss = loss + self.pose_weight * self.pose_loss(*poses, mask)
        return loss

    def pose_loss(
        self, prediction: torch.Tensor, target: torch.Tensor, mask: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Compare normalised poses (B, N, P) where they are known, their change as well, (B,) float."""
        known = target.isfinite().all(dim=-1)
        known = known if mask is None else known & mask
        target = target.nan_to_num()
        loss = sample_loss(prediction, target, known)
        if self.velocity_weight:
            loss = loss + self.velocity_weight * velocity_loss(prediction, target, known)
        return loss


class RegressionObjective(DiffusionObjective):
    """The paper's ablation without diffusion: the same network predicts x_0 from zeros at the last timestep.

    Nothing is drawn, so one step makes the one result; `studies.one_step_predictor` takes it. Arguments as for
    [`DiffusionObjective`].
    """

    def __call__(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Compute the loss of each segment of a [`SegmentDataset`]'s batch, (B,) float."""
        mask = None if batch["frame_mask"].all() else batch["frame_mask"]
        target = self.targets(batch)
        last = torch.full_like(batch["timestep"], NUM_TIMESTEPS - 1)
        inputs = (torch.zeros_like(target), last, batch["audio"], mask, batch["audio_keep"])
        return self.compare(model(*inputs, return_dict=False, **self.told(batch))[0].float(), target, mask)


def masked_mean(values: torch.Tensor, frame_mask: torch.Tensor | None = None) -> torch.Tensor:
    """Average over the valid frames of each sequence, 0 where none is valid.

    Args:
        values ((B, N) float): one value a frame.
        frame_mask ((B, N) bool, *optional*): False for frames that don't count.

    Returns:
        (B,) float.
    """
    if frame_mask is None:
        return values.mean(dim=1)
    return values.masked_fill(~frame_mask, 0).sum(dim=1) / frame_mask.sum(dim=1).clamp(min=1)


def squared_error(error: torch.Tensor, matrix: torch.Tensor | None = None) -> torch.Tensor:
    r"""Square the error of a frame, in another space than that of the codes if a matrix is given.

    .. math:: q(e) = \frac{1}{D} \lVert e \rVert^2 \qquad\text{or}\qquad q_M(e) = \frac{1}{K} \lVert e M \rVert^2

    With a decoder that is linear in the codes, or linearised at the neutral face, M is its matrix, and q_M the error
    of the decoded quantity: M = E for blendshape weights w = z E, or E times the blendshapes of the lip vertices for
    an error in squared units of length.

    Args:
        error ((..., D) float): difference of two codes.
        matrix ((D, K) float, *optional*): M.

    Returns:
        (...) float.
    """
    if matrix is not None:
        error = error @ matrix
    return error.square().mean(dim=-1)


def sample_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    frame_mask: torch.Tensor | None = None,
    matrix: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Compute the paper's loss ||x_0 - G(x_t, t, A)||^2 as a mean: L = mean over valid frames i of q(x̂_i - x_i).

    Args:
        prediction, target ((B, N, D) float): x̂_0 and x_0.
        frame_mask ((B, N) bool, *optional*): False for padding.
        matrix ((D, K) float, *optional*): see [`squared_error`]. If the codes are normalised and M is made for plain
            ones, pass `normalized_matrix(M, code_std)`.

    Returns:
        (B,) float.
    """
    return masked_mean(squared_error(prediction - target, matrix), frame_mask)


def velocity_loss(
    prediction: torch.Tensor,
    target: torch.Tensor,
    frame_mask: torch.Tensor | None = None,
    matrix: torch.Tensor | None = None,
) -> torch.Tensor:
    r"""Compute the error of the change from frame to frame: L = mean over i of q((x̂_{i+1} - x̂_i) - (x_{i+1} - x_i)).

    Pairs with a frame of padding don't count; a sequence of one frame has loss 0. Arguments as for [`sample_loss`].

    Returns:
        (B,) float.
    """
    error = prediction - target
    if error.shape[1] < 2:
        return error.sum(dim=(1, 2)) * 0
    pair_mask = None if frame_mask is None else frame_mask[:, 1:] & frame_mask[:, :-1]
    return masked_mean(squared_error(error[:, 1:] - error[:, :-1], matrix), pair_mask)


def normalized_matrix(matrix: torch.Tensor, code_std: torch.Tensor) -> torch.Tensor:
    """Scale a matrix (D, K) for codes so that it does the same to normalised ones of deviation `code_std` (D,)."""
    return code_std[:, None] * matrix
