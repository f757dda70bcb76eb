"""IMU clocks put right while a data set is built, where that is certain."""

import dataclasses

from imu2clip_jax import alignment
from imu2clip_jax.recordings.recording import Recording

# Below the first another offset explains the motion nearly as well; another
# wearer's IMU correlates up to 0.6.
_MIN_CONFIDENCE, _MIN_CORRELATION = 0.1, 0.8


def correct(recording: Recording) -> tuple[Recording, dict]:
  """Measure the IMU's clock against the video and undo offset and drift.

  Args:
    recording: any; one without video or motion stays as it is.

  Returns:
    (the recording, corrected or as it was; what was found: the fields of
    `alignment.Alignment` and "corrected", or "corrected" and "why" where it
    cannot be measured).
  """
  try:
    found = alignment.measure(recording)
  except ValueError as error:
    return recording, {"corrected": False, "why": str(error)}
  sure = (
    found.confidence >= _MIN_CONFIDENCE
    and found.correlation >= _MIN_CORRELATION
  )
  report = {"corrected": sure, **dataclasses.asdict(found)}
  return alignment.correct(recording, found) if sure else recording, report
