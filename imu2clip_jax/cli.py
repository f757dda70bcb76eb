"""`imu2clip VERB ...`: hand the arguments to the verb's own module."""

import importlib
import sys

import imu2clip_jax
from imu2clip_jax import command

VERBS = {
  "demo": "all of it on the built-in world, in three minutes",
  "build": "raw recordings -> windows",
  "embed": "frozen CLIP, once -> training cache",
  "train": "train an IMU encoder into the frozen CLIP's space",
  "evaluate": "retrieval, zero-shot, linear probe, fine-tune -> report",
  "export": "a trained encoder -> one folder for others, and the hub",
  "search": "find moments by text, by motion or by a picture",
  "timeline": "what the wearer did, and when -> Markdown, JSON, subtitles",
  "teach": "name a motion by showing it",
  "view": "a recording -> a .rrd file for the Rerun viewer",
  "check-sync": "offset and drift between IMU and video",
}


def usage() -> str:
  """Return the list of verbs."""
  lines = ["usage: imu2clip VERB [options]   (imu2clip VERB --help)", ""]
  lines += [f"  {verb:<10} {what}" for verb, what in VERBS.items()]
  return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
  """Run `imu2clip`; returns the exit code."""
  argv = sys.argv[1:] if argv is None else argv
  if not argv or argv[0] in ("-h", "--help", "help"):
    print(usage())
    return 0 if argv else 2
  if argv[0] == "--version":
    print(f"imu2clip {imu2clip_jax.__version__}")
    return 0
  verb = argv[0]
  if verb not in VERBS:
    print(f"imu2clip: error: no verb {verb!r}\n{usage()}", file=sys.stderr)
    return 2
  module = importlib.import_module(f"imu2clip_jax.{verb.replace('-', '_')}")
  return command.run(module.main, argv[1:])


if __name__ == "__main__":
  sys.exit(main())
