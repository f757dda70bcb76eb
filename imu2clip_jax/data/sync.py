"""IMU clocks put right while a data set is built, where that is certain."""

import dataclasses

from imu2clip_jax import alignment
from imu2clip_jax.recordings.recording import Recording


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
  report = {"corrected": found.certain, **dataclasses.asdict(found)}
  if found.certain:
    recording = alignment.correct(recording, found)
  return recording, report
