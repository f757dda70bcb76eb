"""Head pose as an analytic function of time, and the IMU that follows from it.

One function serves all activities. A *bout* is a row of parameters: eight
oscillators feed sixteen waveforms (`WAVES`), and a matrix turns those into the
six degrees of freedom of the head (`DOFS`), which ride on a path (speed, turn
rate, climb rate). Two neighbouring bouts are blended by a polynomial with three
continuous derivatives. Acceleration and angular rate are its exact derivatives.

World axes: z up, metres. Head axes: x left, y back, z up; at heading 0 they
are the world's. Positive yaw turns left, positive pitch looks down, positive
roll leans the top of the head to the left.

Time is split into blocks: float32 inside a block, counted from its start;
phases, headings and places at that start are reduced in float64 on the host.
"""

import jax
import jax.numpy as jnp
import numpy as np

GRAVITY = 9.81  # m/s²
DOFS = ("x", "y", "z", "yaw", "pitch", "roll")
OSCILLATORS = (
  "stroke",  # the activity's own rhythm: a stride, a chop, a pull
  "event",  # what happens now and then: a rise, a glance, a reach
  "burst",  # strokes come in bursts with rests between
  *("drift1", "drift2", "drift3"),  # slow wandering
  *("shake1", "shake2"),  # vibration
)
WAVES = (
  *("sin1", "cos1", "sin2", "cos2"),  # stroke and its second harmonic
  *("hit1", "hit2"),  # one or two sharp knocks a stroke
  *("sin_event", "cos_event", "pulse", "square", "change"),
  *("drift1", "drift2", "drift3", "shake1", "shake2"),
)
# How a bout is stored: name -> shape. Rates in rad/s, phases in rad.
FIELDS = {
  "rate": (len(OSCILLATORS),),
  "phase": (len(OSCILLATORS),),
  "wobble": (2,),  # rad: how far drift moves the phases of stroke and event
  "sharpness": (4,),  # of hit, pulse, square, burst
  "rest": (2,),  # share of stroke that rests, level of the burst cosine
  "offset": (len(DOFS),),
  "weights": (len(DOFS), len(WAVES)),
  "speed": (),  # m/s
  "turn": (),  # rad/s, positive to the left
  "climb": (),  # m/s
}


def _waves(t, b):
  phase = b["phase"][:, None] + b["rate"][:, None] * t[None]
  drift = jnp.sin(phase[3:6])
  stroke = phase[0] + b["wobble"][0] * drift[0]
  event = phase[1] + b["wobble"][1] * drift[1]
  hit_k, pulse_k, square_k, burst_k = b["sharpness"]
  resting, level = b["rest"]
  burst = jax.nn.sigmoid(burst_k * (jnp.cos(phase[2]) - level))
  on = 1.0 - resting * (1.0 - burst)
  sin1, cos1 = jnp.sin(stroke), jnp.cos(stroke)
  sin2, cos2 = 2.0 * sin1 * cos1, 1.0 - 2.0 * sin1 * sin1
  sin_event, cos_event = jnp.sin(event), jnp.cos(event)
  square = jnp.tanh(square_k * sin_event)
  shake = jnp.sin(phase[6:8] + 2.0 * drift[:2]) * (1.0 + 0.5 * drift[2:])
  return jnp.stack(
    [
      on * sin1,
      on * cos1,
      on * sin2,
      on * cos2,
      on * jnp.exp(hit_k * (cos1 - 1.0)),
      on * jnp.exp(hit_k * (cos2 - 1.0)),
      sin_event,
      cos_event,
      on * jnp.exp(pulse_k * (cos_event - 1.0)),
      square,
      1.0 - square * square,
      *drift,
      *shake,
    ]
  )


def _path(t, b):
  # An arc of constant speed. A block is short, so the half angle is small and
  # four terms of sin(u)/u are exact to float32; no division by a turn of 0.
  u = 0.5 * b["turn"] * t
  series = 1.0 - u * u / 6.0 * (1.0 - u * u / 20.0 * (1.0 - u * u / 42.0))
  chord = b["speed"] * t * series
  direction = b["heading"] + u
  return jnp.stack(
    [
      b["place"][0] + chord * jnp.sin(direction),
      b["place"][1] - chord * jnp.cos(direction),
      b["place"][2] + b["climb"] * t,
    ]
  )


def _bout(t, b):
  """Six numbers of one bout: world position and yaw, pitch, roll, [6, n]."""
  waves = _waves(t, b)
  dof = b["offset"][:, None] + b["weights"] @ waves
  heading = b["heading"] + b["turn"] * t
  sin, cos = jnp.sin(heading), jnp.cos(heading)
  path = _path(t, b)
  six = jnp.stack(
    [
      path[0] + cos * dof[0] - sin * dof[1],
      path[1] + sin * dof[0] + cos * dof[1],
      path[2] + dof[2],
      heading + dof[3],
      dof[4],
      dof[5],
    ]
  )
  return six, waves, path, heading


def _share(t, block):
  """Weight of the later bout: 0 -> 1 around the change, smooth to order 3."""
  s = jnp.clip((t - block["change"]) / block["change_s"] + 0.5, 0.0, 1.0)
  return s**4 * (35.0 - 84.0 * s + 70.0 * s**2 - 20.0 * s**3)


_both = jax.vmap(_bout, in_axes=(None, 0))


def _blended(t, block):
  early, late = _both(t, block["bouts"])[0]
  return early + _share(t, block)[None] * (late - early)


def rotation(angles):
  """Yaw, pitch, roll [3, ...] in rad -> head-to-world matrix, rows first."""
  sy, sp, sr = jnp.sin(angles)
  cy, cp, cr = jnp.cos(angles)
  return jnp.stack(
    [
      jnp.stack([cy * cr - sy * sp * sr, -sy * cp, cy * sr + sy * sp * cr]),
      jnp.stack([sy * cr + cy * sp * sr, cy * cp, sy * sr - cy * sp * cr]),
      jnp.stack([-cp * sr, sp, cp * cr]),
    ]
  )


def pose(t, block):
  """Position [3, n] from the block's place and rotation [3, 3, n]."""
  six = _blended(t, block)
  return six[:3], rotation(six[3:])


def camera(t, block):
  """The pose as the present bout's scene sees it.

  The scene travels along the bout's path, so walking shows as scrolling.

  Args:
    t: [n] seconds since the block's start.
    block: one row of `blocks`.

  Returns:
    position [3, n], rotation [3, 3, n] and the bout's waves [len(WAVES), n].
  """
  (early, late), *each = _both(t, block["bouts"])
  six = early + _share(t, block)[None] * (late - early)
  waves, path, heading = (
    jnp.where(block["is_late"], there, here) for here, there in each
  )
  away = six[:3] - path
  sin, cos = jnp.sin(heading), jnp.cos(heading)
  position = jnp.stack(
    [cos * away[0] + sin * away[1], cos * away[1] - sin * away[0], away[2]]
  )
  return position, rotation(six[3:].at[0].add(-heading)), waves


def imu(t, block):
  """Specific force [3, n] in m/s² and angular rate [3, n] in rad/s.

  f = Rᵀ (d²p/dt² - g) and skew(ω) = Rᵀ dR/dt, by forward differentiation.
  """
  ones = jnp.ones_like(t)

  def rates(t):
    return jax.jvp(lambda t: _blended(t, block), (t,), (ones,))

  (six, first), (_, second) = jax.jvp(rates, (t,), (ones,))
  matrix, change = jax.jvp(rotation, (six[3:],), (first[3:],))
  pull = second[:3] + jnp.array([[0.0], [0.0], [GRAVITY]])
  force = jnp.einsum("jin,jn->in", matrix, pull)
  spin = jnp.einsum("jin,jkn->ikn", matrix, change)
  return force, jnp.stack([spin[2, 1], spin[0, 2], spin[1, 0]])


@jax.jit
def imu_blocks(t, block):
  """`imu` for times [K, n] of K blocks -> [K, n, 6]."""
  force, rate = jax.vmap(imu)(t, block)
  return jnp.moveaxis(jnp.concatenate([force, rate], axis=1), 1, 2)


pose_blocks = jax.jit(jax.vmap(pose))


def arc(bouts: dict, index, elapsed_s):
  """Place [n, 3] and heading [n] on the path of a bout, float64.

  Args:
    bouts: name -> array, as `bouts.plan` makes them.
    index: [n] which bout.
    elapsed_s: [n] seconds since that bout's start.
  """
  speed, turn = bouts["speed"][index], bouts["turn"][index]
  half = 0.5 * turn * elapsed_s
  chord = speed * elapsed_s * np.sinc(half / np.pi)
  start = bouts["heading"][index]
  place = bouts["place"][index] + np.stack(
    [
      chord * np.sin(start + half),
      -chord * np.cos(start + half),
      bouts["climb"][index] * elapsed_s,
    ],
    axis=-1,
  )
  return place, start + turn * elapsed_s


def blocks(bouts: dict, start_s, length_s: float):
  """Gather the two bouts that each block of time can see.

  Args:
    bouts: name -> array [number of bouts, ...].
    start_s: [K] float64 starts of blocks.
    length_s: of every block; a block sees at most one change of bouts.

  Returns:
    A tree of float32 arrays [K, ...] for `imu_blocks` and `pose_blocks`, and
    the float64 places [K, 3] from which its positions count.
  """
  starts = bouts["start_s"]
  last = len(starts) - 1
  # The change nearest to the middle of the block, if its blend reaches it.
  middle = start_s + 0.5 * length_s
  after = np.clip(np.searchsorted(starts, middle, side="right"), 1, None)
  after = np.minimum(after, last)
  before = np.maximum(after - 1, 0)
  nearer = np.abs(starts[before] - middle) < np.abs(starts[after] - middle)
  change = np.where(nearer, before, after)
  change_s = bouts["change_s"][change]
  reach = 0.5 * (length_s + change_s)
  seen = (change > 0) & (np.abs(starts[change] - middle) <= reach)
  here = np.clip(np.searchsorted(starts, start_s, side="right") - 1, 0, last)
  early = np.where(seen, change - 1, here)
  late = np.where(seen, change, here)
  place, heading = arc(bouts, early, start_s - starts[early])
  whole_turns = 2 * np.pi * np.floor(heading / (2 * np.pi))
  far = np.where(seen, starts[change] - start_s, length_s + change_s + 1.0)
  tree = {
    "bouts": _rows(
      bouts,
      np.stack([early, late], axis=1),
      start_s[:, None],
      place[:, None],
      whole_turns[:, None],
    ),
    "change": far.astype(np.float32),
    "change_s": change_s.astype(np.float32),
    "is_late": (start_s >= starts[late]),
  }
  return tree, place


def _rows(bouts, index, start_s, origin, whole_turns):
  elapsed = start_s - bouts["start_s"][index]
  rows = {name: bouts[name][index] for name in FIELDS}
  phase = rows["phase"] + rows["rate"] * elapsed[..., None]
  rows["phase"] = np.mod(phase, 2 * np.pi)
  place, heading = arc(bouts, index, elapsed)
  rows["place"] = place - origin
  rows["heading"] = heading - whole_turns
  return {name: value.astype(np.float32) for name, value in rows.items()}
