"""`imu2clip check-sync RECORDING`: is the IMU in step with the video?"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

import tqdm

from imu2clip_jax import alignment, command
from imu2clip_jax.recordings import opening

_FARTHEST_S = 3600.0


def parser() -> argparse.ArgumentParser:
  """Return the verb's argument parser."""
  p = command.parser(
    "check-sync",
    "Measure offset and drift between IMU and video, from how the wearer turns "
    "and how the picture moves. Stabilised video (HyperSmooth) cannot be used.",
    "imu2clip check-sync GX010042.MP4",
  )
  p.add_argument("recording", help="IMU or video file, or sequence folder")
  p.add_argument("--video", help="its video, where the layout does not tell")
  p.add_argument(
    "--max_offset", type=float, default=5.0, help="seconds; default 5"
  )
  p.add_argument(
    "--clips", type=int, default=12, help="clips of 20 s to look at; default 12"
  )
  p.add_argument("--json", action="store_true", help="result as JSON on stdout")
  return p


def describe(recording_id: str, found: alignment.Alignment) -> str:
  """Say in one line what was found."""
  side = "late" if found.offset_s > 0 else "early"
  line = (
    f"{recording_id}: IMU stamps are {abs(found.offset_s) * 1e3:.0f} ms {side} "
    f"(offset {found.offset_s:+.3f} s), drift {found.drift * 100:+.3f} %; "
    f"correlation {found.correlation:.3f}, confidence {found.confidence:.2f} "
    f"from {found.clips} clips"
  )
  if not found.certain:
    line += "\nnot certain: another offset, or chance, explains as much"
  return line


def main(argv: Sequence[str] | None = None) -> int:
  """Run the verb."""
  args = parser().parse_args(argv)
  if args.clips < 1 or not 0 < args.max_offset <= _FARTHEST_S:
    raise ValueError(
      "--clips must be above 0, --max_offset above 0 and at most "
      f"{_FARTHEST_S:g} s"
    )
  recording = opening.open_recording(args.recording, video=args.video, texts=[])
  with tqdm.tqdm(
    total=100, desc="check-sync", unit="%", bar_format="{l_bar}{bar}| {elapsed}"
  ) as bar:
    found = alignment.measure(
      recording,
      max_clips=args.clips,
      max_offset_s=args.max_offset,
      tick=lambda share: bar.update(100 * share),
    )
  if args.json:
    command.print_json(
      {"recording": recording.recording_id, **dataclasses.asdict(found)}
      | {"certain": found.certain}
    )
  else:
    print(describe(recording.recording_id, found))
  return 0


if __name__ == "__main__":
  sys.exit(command.run(main))
