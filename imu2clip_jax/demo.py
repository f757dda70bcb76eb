"""`imu2clip demo`: the whole idea on the built-in world, in three minutes.

Simulates wearers, cuts their recordings into windows, teaches a tiny CLIP to
name frames, freezes it, trains the three variants of the IMU encoder into its
space, and evaluates them on wearers that none of them has met. Every part is
what the other verbs run; a part that is finished is not run again.
"""

import contextlib
import pathlib
import sys
import time
from collections.abc import Sequence

import numpy as np

from imu2clip_jax import command, evaluate, logs, tables, tiny_clip
from imu2clip_jax import config as config_lib
from imu2clip_jax import train as train_lib
from imu2clip_jax.data import builder, texts, windows
from imu2clip_jax.recordings import synthetic

WINDOWS = windows.Options(
  window_s=5.0, stride_s=5.0, rate_hz=50.0, num_frames=1, frame_size=32
)
# Who is simulated: motion and pictures of the first, pictures alone of the
# second, since pictures are what the teacher learns from. A teacher who has met
# few people knows their clothes and rooms rather than what they do.
WORLD = {
  "train_wearers": 48,
  "validation_wearers": 4,
  "test_wearers": 8,
  "recordings_per_wearer": 1,
  "duration_s": 540.0,
}
TEACHER_WEARERS, TEACHER_RECORDING_S, TEACHER_FRAME_EVERY_S = 130, 300.0, 5.0


def build_world(data_dir: pathlib.Path, seed: int) -> dict:
  """Simulate the wearers and write their windows; see `builder.build`."""
  entries = synthetic.find(seed=seed, **WORLD)
  about = {"seed": seed, **WORLD}
  return builder.build("synthetic_imu", entries, data_dir, WINDOWS, about=about)


def teach_clip(folder: pathlib.Path, seed: int) -> None:
  """Train the tiny CLIP on pictures of training wearers and what they show.

  It sees every activity, also those that the IMU encoder will not: it plays the
  part of a CLIP that knows more of the world than the motion data shows.
  """
  if (folder / "config.json").is_file():
    return
  frames, captions = [], []
  wearers = range(TEACHER_WEARERS)
  for wearer in logs.progress(wearers, what="look around", unit="wearers"):
    world = synthetic.Simulation(
      seed=seed, wearer=wearer, duration_s=TEACHER_RECORDING_S
    )
    step = TEACHER_FRAME_EVERY_S
    times = np.arange(step / 2, TEACHER_RECORDING_S, step)
    frames.append(world.frames(times))
    for time_s in times:
      label, *sentences = map(texts.plain, world.captions(time_s))
      # Half of what it reads names the activity, half describes it.
      captions.append([label] * len(sentences) + sentences)
  tiny_clip.train(np.concatenate(frames), captions, folder, seed=seed)


def demo(workdir: str | pathlib.Path, seed: int = 0) -> list[dict]:
  """Run every part that is not finished yet.

  Args:
    workdir: gets data, tiny_clip and one workdir a variant.
    seed: of the world and of all that is trained on it.

  Returns:
    what metrics.json holds, one document a variant.
  """
  workdir = pathlib.Path(workdir)
  data_dir, clip_dir = workdir / "data", workdir / "tiny_clip"
  with _chapter("the world: simulate wearers, cut windows"):
    build_world(data_dir, seed)
  with _chapter("the teacher: a tiny CLIP, then frozen"):
    teach_clip(clip_dir, seed)
  documents = []
  for variant in config_lib.VARIANTS:
    config = config_lib.demo(variant)
    config.seed = seed
    config.data.dir = str(data_dir)
    config.teacher.path = str(clip_dir)
    with _chapter(f"{variant}: train, then ask wearers it has not met"):
      if train_lib.train(config, workdir / variant) < config.train.steps:
        raise KeyboardInterrupt  # SIGTERM ended training in good order
      # Fine-tuning shows nothing here that the probe does not, and takes time.
      documents.append(evaluate.evaluate(workdir / variant, fine_tune=False))
  return documents


@contextlib.contextmanager
def _chapter(what):
  start = time.monotonic()
  print(f"-- {what}", file=sys.stderr, flush=True)
  yield
  seconds = time.monotonic() - start
  print(f"   {seconds:.0f} s", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
  """Run `imu2clip demo`."""
  parser = command.parser(
    "demo",
    "Run all of it on the built-in world: simulate, build, train a tiny CLIP "
    "and the three variants, evaluate. Run again, it goes on where it was.",
    "imu2clip demo --workdir=runs/demo",
  )
  parser.add_argument(
    "--workdir",
    default="runs/demo",
    help="where everything goes (default: runs/demo)",
  )
  parser.add_argument("--seed", type=int, default=0, help="of world and runs")
  parser.add_argument(
    "--json", action="store_true", help="one JSON document on stdout"
  )
  args = parser.parse_args(argv)
  start = time.monotonic()
  documents = demo(args.workdir, args.seed)
  if args.json:
    command.print_json({d["variant"]: d for d in documents})
    return 0
  print(tables.closing(documents))
  workdir = pathlib.Path(args.workdir)
  print(f"{time.monotonic() - start:.0f} s. Look at:")
  for document in documents:
    print(f"  {workdir / document['variant'] / 'report.html'}")
  return 0


if __name__ == "__main__":
  sys.exit(command.run(main))
