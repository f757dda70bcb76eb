"""The picture: every pixel's ray against every box and ball of the scene.

A frame is the mean over a shutter's worth of moments, each with its own offset
inside the pixel, which gives motion blur and smooth edges in one go.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from imu2clip_jax.recordings.world import motion, things

MOMENTS = 3
SHUTTER_S = 0.12
CAMERA_TILT = np.radians(20.0)  # the camera looks a little below the gaze
HALF_VIEW = 0.77  # tangent of half the field of view: 75 degrees
_ZENITH = (0.35, 0.55, 0.9)
_FAR = 1e4
_BEHIND_M = 1.5  # a thing that comes again leaves the scene here


def _rays(size: int):
  """Directions [MOMENTS, size², 3] in the head frame, first row on top."""
  offsets = np.array([[0.17, 0.5], [0.5, 0.83], [0.83, 0.17]])[:MOMENTS]
  steps = np.arange(size)
  rays = []
  for across, down in offsets:
    right = (steps + across) / size * 2 - 1
    below = (steps + down) / size * 2 - 1
    below, right = np.meshgrid(below, right, indexing="ij")
    ray = np.stack(
      [-right * HALF_VIEW, -np.ones_like(right), -below * HALF_VIEW], axis=-1
    )
    sin, cos = np.sin(CAMERA_TILT), np.cos(CAMERA_TILT)
    tilt = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    rays.append((ray @ tilt.T).reshape(-1, 3))
  rays = np.stack(rays)
  return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


def _placed(scene, travel, place, turn, waves):
  """Centres [P, 3] and rotations [P, 3, 3] of the things at one moment."""
  shift = scene["wave"] @ waves
  centre = scene["centre"] + scene["swing"] * shift[:, None]
  x, y, z = centre.T
  wrap = scene["wrap"]
  again = jnp.mod(y + travel, jnp.maximum(wrap, 1e-3)) - wrap + _BEHIND_M
  y = jnp.where(wrap > 0, again, y)
  centre = jnp.stack([x, y, z - scene["slope"] * y], axis=1)
  worn = scene["worn"] > 0
  centre = jnp.where(worn[:, None], place[None] + centre @ turn.T, centre)
  turned = jnp.einsum("ij,pjk->pik", turn, scene["turn"])
  return centre, jnp.where(worn[:, None, None], turned, scene["turn"])


def _nearest(origin, rays, centre, turned, half):
  """Distance [N] along each ray to the first thing it meets, and which [N].

  Thing by thing, so that the rays of a frame stay in the processor's cache:
  sixteen times as fast as all pairs at once.
  """
  start = jnp.einsum("pi,pij->pj", origin[None] - centre, turned) / half
  matrix = turned / half[:, None, :]
  axes = rays.T

  def along(k):
    return [matrix[k, :, j] @ axes for j in range(3)]

  def keep(k, best, hit, distance):
    hit &= (distance > 0) & (distance < best[0])
    return jnp.where(hit, distance, best[0]), jnp.where(hit, k, best[1])

  def box(k, best):
    # Inside all three slabs between `near` and `far`.
    inverse = [1.0 / jnp.where(jnp.abs(a) < 1e-9, 1e-9, a) for a in along(k)]
    middle = [-start[k, j] * inverse[j] for j in range(3)]
    reach = [jnp.abs(i) for i in inverse]
    spans = list(zip(middle, reach, strict=True))
    near = functools.reduce(jnp.maximum, [m - r for m, r in spans])
    far = functools.reduce(jnp.minimum, [m + r for m, r in spans])
    return keep(k, best, near < far, near)

  def ball(k, best):
    # The smaller root of |start + s along|² = 1.
    ways = along(k)
    a = sum(way * way for way in ways)
    b = sum(way * start[k, j] for j, way in enumerate(ways))
    root = b * b - a * (start[k] @ start[k] - 1.0)
    return keep(k, best, root > 0, (-b - jnp.sqrt(jnp.abs(root))) / a)

  best = (jnp.full(len(rays), _FAR), jnp.zeros(len(rays), jnp.int32))
  best = jax.lax.fori_loop(0, things.MAX_BOXES, box, best)
  end = things.MAX_BOXES + things.MAX_BALLS
  return jax.lax.fori_loop(things.MAX_BOXES, end, ball, best)


def _surroundings(scene, travel, origin, rays):
  """Distance [N] and colour [N, 3] of floor, walls, ceiling or sky."""
  bounds = jnp.where(
    rays > 0, scene["room_high"][None], scene["room_low"][None]
  )
  safe = jnp.where(jnp.abs(rays) < 1e-9, 1e-9, rays)
  reach = (bounds - origin[None]) / safe
  face = jnp.argmin(reach, axis=1)
  distance = jnp.min(reach, axis=1)
  x, y, _ = (origin[None] + distance[:, None] * rays).T
  # The floor is a soft checker that travels with the path.
  tile = scene["tile"]
  checker = jnp.sin(x * tile) * jnp.sin((y - travel) * tile)
  contrast = 0.16 * jnp.exp(-distance / 6.0) * jnp.clip(4 * checker, -1, 1)
  panels = 0.05 * jnp.clip(jnp.sin(3.0 * x) + jnp.sin(3.0 * y), -1, 1)
  floor = scene["floor"][None] * (0.92 + contrast)[:, None]
  side = jnp.where(face == 0, 0.85, 0.96)
  wall = scene["wall"][None] * (side + panels)[:, None]
  up = rays[:, 2]
  level = jnp.where(up[:, None] > 0, jnp.array([[0.93, 0.93, 0.9]]), floor)
  indoors = jnp.where((face == 2)[:, None], level, wall)
  rise = jnp.clip(up, 0.0, 1.0)[:, None]
  sky = scene["sky"][None] * (1.0 - rise) + jnp.array([_ZENITH]) * rise
  ridge = 0.06 + 0.04 * jnp.sin(5.0 * rays[:, 0]) * jnp.sin(3.0 * rays[:, 0])
  sky = jnp.where((up < ridge)[:, None], scene["wall"][None], sky)
  ground = (up < 0) & (face == 2)
  outdoors = jnp.where(ground[:, None], floor, sky)
  return distance, jnp.where(scene["open"] > 0, outdoors, indoors)


def _moment(scene, travel, place, turn, waves, rays):
  """Colours [N, 3] of one moment."""
  centre, turned = _placed(scene, travel, place, turn, waves)
  rays = rays @ turn.T
  distance, nearest = _nearest(place, rays, centre, turned, scene["half"])
  back, colour = _surroundings(scene, travel, place, rays)
  point = place[None] + distance[:, None] * rays
  own_turn, own_half = turned[nearest], scene["half"][nearest]
  local = jnp.einsum("ni,nij->nj", point - centre[nearest], own_turn)
  local = local / own_half
  # A box's normal is the axis nearest its face; a ball's is radial.
  size = jnp.abs(local)
  facet = jnp.sign(local) * (size >= size.max(axis=1, keepdims=True))
  is_box = (nearest < things.MAX_BOXES)[:, None]
  normal = jnp.where(is_box, facet, local / own_half)
  normal = jnp.einsum("nij,nj->ni", own_turn, normal)
  length = jnp.linalg.norm(normal, axis=1) + 1e-9
  light = 0.62 + 0.38 * (normal @ scene["light"]) / length
  stripes = scene["stripes"][nearest]
  across = jnp.where(stripes < 0, local[:, 2], local[:, 0])
  band = jnp.clip(3.0 * jnp.sin(jnp.pi * stripes * across), -1.0, 1.0)
  light = light * jnp.where(stripes == 0, 1.0, 0.72 + 0.28 * band)
  shown = scene["colour"][nearest] * light[:, None]
  return jnp.where((distance < back)[:, None], shown, colour)


def _frame(scene, block, travel, size):
  t = jnp.linspace(-0.5, 0.5, MOMENTS) * SHUTTER_S
  place, turn, waves = motion.camera(t, block)
  picture = jax.vmap(_moment, in_axes=(None, 0, 1, 2, 1, 0))(
    scene, travel + block["speed"] * t, place, turn, waves, _rays(size)
  ).mean(axis=0)
  picture = jnp.clip(picture * scene["exposure"][None], 0.0, 1.0)
  return jnp.round(255.0 * picture).astype(jnp.uint8).reshape(size, size, 3)


@functools.partial(jax.jit, static_argnames="size")
def frames(scene, block, travel, *, size: int):
  """Render K frames, uint8 [K, size, size, 3].

  Args:
    scene: tree of arrays [K, ...]: `things.pack`, and the surroundings that
      `scenes.look` adds.
    block: `motion.blocks` at the frames' times, and the present bout's speed.
    travel: [K] metres along the path, reduced to `scenes.LOOP_M`.
    size: pixels a side.
  """
  return jax.lax.map(lambda each: _frame(*each, size), (scene, block, travel))
