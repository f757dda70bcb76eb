"""Random changes of IMU windows that leave their meaning as it is.

Every transformation is a pure function (key, imu [B, T, 6], amount) -> imu of
the same shape and dtype, drawn for each window by itself; `augment` applies
those that its options ask for. Signals are acceleration with gravity in m/s²
and angular rate in rad/s. Sensors that were not measured stay zero where a
transformation has no offset of its own; the encoder's sensor mask holds anyway.

Jitter, scaling, rotation and time warping are those of Um et al. 2017 (arXiv
1706.00527, section 3), mixup is Zhang et al. 2018 (arXiv 1710.09412).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

_ACCEL = slice(0, 3)
# Keeps these keys apart from those of the parameters, which have the same seed.
_STREAM = 1
# Knots of a time warp's speed.
_KNOTS = 5
# Half turns about no axis, x, y and z.
_HALF_TURNS = ((1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1))


def augment(
  key: jax.Array, imu: jax.Array, sensor_mask: jax.Array, options
) -> tuple[jax.Array, jax.Array]:
  """Apply the transformations that `options` asks for.

  Args:
    key: one key a step.
    imu: [B, T, 6].
    sensor_mask: bool [B, 2], accel and gyro measured?
    options: has the fields of `config.augment`, where they are described; at
      0 or False a transformation is left out.

  Returns:
    imu and sensor mask, as they would have been recorded.
  """
  # Each has a number of its own, so that one more leaves the others' draws.
  steps = (
    (0, options.half_turns, half_turns),
    (1, options.mirror, mirror),
    (2, options.yaw, rotate_yaw),
    (3, options.tilt_rad, tilt),
    (4, options.rotate, rotate),
    (5, options.rate, change_rate),
    (9, options.time_warp, warp_time),
    (6, options.scale, scale),
    (7, options.jitter, jitter),
    (10, options.drop_channel, drop_channel),
  )
  for number, amount, transform in steps:
    if amount:
      imu = transform(jax.random.fold_in(key, number), imu, amount)
  if options.drop_sensor:
    sensor_mask = drop_sensor(
      jax.random.fold_in(key, 8), sensor_mask, options.drop_sensor
    )
  return jnp.where(jnp.repeat(sensor_mask, 3, 1)[:, None], imu, 0), sensor_mask


def from_config(options, seed: int) -> Callable | None:
  """Return change(step, imu, sensor_mask, view=0) -> both, or None if all off.

  Views of one step differ in their draws.

  Args:
    options: as in `augment`.
    seed: the run's; a step's key is folded from it, so that a resumed run goes
      on as if it had not stopped.
  """
  if not any(options.values()):
    return None
  root = jax.random.key(seed)

  def change(step, imu, sensor_mask, view=0):
    stream = jax.random.fold_in(root, _STREAM + view)
    key = jax.random.fold_in(stream, step)
    return augment(key, imu, sensor_mask, options)

  return change


def half_turns(key, imu, share=1.0):
  """Turn the sensor by 0 or 180° about x, y or z, each as likely.

  A sensor that is clipped on upside down or the other way round. A share of
  the windows, the others stay.
  """
  keys = jax.random.split(key)
  batch = imu.shape[0]
  kind = jax.random.randint(keys[0], (batch,), 0, len(_HALF_TURNS))
  kind = jnp.where(jax.random.uniform(keys[1], (batch,)) < share, kind, 0)
  signs = jnp.asarray(_HALF_TURNS, imu.dtype)[kind]
  return imu * jnp.tile(signs, (1, 2))[:, None]


def mirror(key, imu, share=0.5):
  """Swap left and right, along the head frame's x, in a share of the windows.

  In a sensor's own axes that is a mirrored wearer up to a half turn.
  Acceleration is a vector, its component along the mirror's normal changes
  sign; angular rate is an axial vector, the other two do.
  """
  chosen = jax.random.uniform(key, (imu.shape[0], 1, 1)) < share
  signs = jnp.asarray([-1, 1, 1, 1, -1, -1], imu.dtype)
  return jnp.where(chosen, imu * signs[None, None], imu)


def rotate_yaw(key, imu, share=1.0):
  """Turn each window about its own vertical by any angle.

  The vertical is the window's mean acceleration; without any it is z. The
  direction of gravity in the sensor's axes stays as it is.
  """
  keys = jax.random.split(key)
  batch = imu.shape[0]
  up = imu[:, :, _ACCEL].mean(1)
  square = (up * up).sum(1, keepdims=True)
  z = jnp.asarray([[0, 0, 1]], imu.dtype)
  up = jnp.where(square > 0, up * jax.lax.rsqrt(square + 1e-12), z)
  angle = jax.random.uniform(keys[0], (batch,), imu.dtype, 0, 2 * jnp.pi)
  angle = jnp.where(jax.random.uniform(keys[1], (batch,)) < share, angle, 0)
  return _turn(imu, rotation_about(up, angle))


def tilt(key, imu, spread_rad):
  """Turn the sensor a little: a normal rotation vector of this spread."""
  vector = spread_rad * jax.random.normal(key, (imu.shape[0], 3), imu.dtype)
  angle = jnp.sqrt((vector * vector).sum(1) + 1e-12)
  return _turn(imu, rotation_about(vector / angle[:, None], angle))


def rotate(key, imu, share=1.0):
  """Turn the sensor into any orientation, uniform over rotations.

  By a normal quaternion of unit length (Shoemake 1992). For placements that
  are not known at all: posture is lost.
  """
  keys = jax.random.split(key)
  batch = imu.shape[0]
  q = jax.random.normal(keys[0], (batch, 4), imu.dtype)
  q = q / jnp.sqrt((q * q).sum(1, keepdims=True) + 1e-12)
  half = jnp.sqrt((q[:, 1:] ** 2).sum(1) + 1e-12)
  angle = 2 * jnp.arctan2(half, q[:, 0])
  angle = jnp.where(jax.random.uniform(keys[1], (batch,)) < share, angle, 0)
  return _turn(imu, rotation_about(q[:, 1:] / half[:, None], angle))


def change_rate(key, imu, spread):
  """Play each window faster or slower by exp(±spread), uniform in the log.

  Linear between samples. A slower window starts anywhere in the recorded one;
  a faster one runs back from its end, as by a mirror in time. A motion at
  another tempo; its accelerations are left as they are.
  """
  keys = jax.random.split(key)
  batch, time, _ = imu.shape
  speed = jnp.exp(
    jax.random.uniform(keys[0], (batch, 1), imu.dtype, -1) * spread
  )
  last = time - 1
  room = last * jnp.maximum(1 - speed, 0)
  at = jnp.arange(time, dtype=imu.dtype)[None] * speed
  at = at + room * jax.random.uniform(keys[1], (batch, 1), imu.dtype)
  return _sample(imu, last - jnp.abs(at % (2 * last) - last))


def warp_time(key, imu, spread):
  """Let the tempo drift within each window, which keeps its beginning and end.

  The logarithm of the speed is normal with this spread at a few knots and
  straight between them; signals are linear between samples.
  """
  batch, time, _ = imu.shape
  knots = spread * jax.random.normal(key, (batch, _KNOTS), imu.dtype)
  places = jnp.linspace(0, _KNOTS - 1, time - 1, dtype=imu.dtype)
  speed = jnp.exp(
    jax.vmap(jnp.interp, (None, None, 0))(places, jnp.arange(_KNOTS), knots)
  )
  at = jnp.cumsum(speed, 1)
  at = jnp.pad(at / at[:, -1:], ((0, 0), (1, 0))) * (time - 1)
  return _sample(imu, at)


def _sample(imu, at):
  """Values at fractional sample numbers [B, T], linear between samples."""
  before = jnp.clip(at.astype(jnp.int32), 0, imu.shape[1] - 2)[..., None]
  share = at[..., None] - before
  left = jnp.take_along_axis(imu, before, 1)
  return left + share * (jnp.take_along_axis(imu, before + 1, 1) - left)


def scale(key, imu, spread):
  """Scale the motion of each sensor by exp(normal * spread).

  The mean of a window, gravity above all, stays.
  """
  factor = jax.random.normal(key, (imu.shape[0], 1, 2), imu.dtype)
  factor = jnp.repeat(jnp.exp(factor * spread), 3, 2)
  mean = imu.mean(1, keepdims=True)
  return mean + (imu - mean) * factor


def jitter(key, imu, largest):
  """Add white noise, as another sensor would.

  Its level is uniform in the log over a factor of 100 up to `largest`, m/s² for
  the accelerometer and a tenth of it in rad/s for the gyroscope.
  """
  keys = jax.random.split(key)
  level = jax.random.uniform(keys[0], (imu.shape[0], 1, 1), imu.dtype)
  level = largest * jnp.exp(-jnp.log(100.0) * level).astype(imu.dtype)
  sensors = jnp.asarray([1, 1, 1, 0.1, 0.1, 0.1], imu.dtype)[None, None]
  return imu + level * sensors * jax.random.normal(
    keys[1], imu.shape, imu.dtype
  )


def drop_channel(key, imu, share):
  """Let each of the six channels read zero in a share of the windows."""
  lost = jax.random.uniform(key, (imu.shape[0], 1, imu.shape[2])) < share
  return jnp.where(lost, 0, imu)


def drop_sensor(key, sensor_mask, share):
  """Take one of two measured sensors from a share of the windows.

  Returns:
    bool [B, 2]; a window keeps its last sensor.
  """
  keys = jax.random.split(key)
  batch = sensor_mask.shape[0]
  drop = jax.random.uniform(keys[0], (batch,)) < share
  drop = drop & sensor_mask.all(1)
  which = jax.random.randint(keys[1], (batch,), 0, 2)
  return sensor_mask & ~(
    drop[:, None] & (which[:, None] == jnp.arange(2)[None])
  )


def mixup(key, imu, targets, alpha):
  """Mix each window with another one of the batch, and their targets alike.

  Args:
    key: one key a step.
    imu: [B, T, 6].
    targets: [B, C] class probabilities.
    alpha: of the Beta distribution of the shares; the window's own share is
      the larger one.

  Returns:
    mixed imu and targets.
  """
  own = jax.random.beta(key, alpha, alpha, (imu.shape[0],), imu.dtype)
  own = jnp.maximum(own, 1 - own)[:, None]
  # The order is random already, so the batch reversed is a random partner.
  mixed = own[..., None] * imu + (1 - own)[..., None] * imu[::-1]
  return mixed, own * targets + (1 - own) * targets[::-1]


def rotation_about(axis: jax.Array, angle: jax.Array) -> jax.Array:
  """Return Rodrigues' rotations, unit axis [B, 3], rad [B] -> [B, 3, 3]."""
  x, y, z = axis.T
  zero = jnp.zeros_like(x)
  cross = jnp.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1)
  cross = cross.reshape(-1, 3, 3)
  sine, versine = jnp.sin(angle), 1 - jnp.cos(angle)
  square = jnp.einsum("bij,bjk->bik", cross, cross)
  return (
    jnp.eye(3, dtype=axis.dtype)[None]
    + sine[:, None, None] * cross
    + versine[:, None, None] * square
  )


def _turn(imu, rotations):
  sensors = imu.reshape(*imu.shape[:2], 2, 3)
  return jnp.einsum("bij,btsj->btsi", rotations, sensors).reshape(imu.shape)
