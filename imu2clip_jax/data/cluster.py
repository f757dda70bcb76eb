"""Recordings cut by an Apache Beam pipeline, on as many machines as it has.

Only the parts are made there, each by the function that a single machine runs;
`builder.build` then puts them together. All machines must see the folders of
the raw recordings and of the data set under the same names. Needs the extra
`beam`.
"""

import pathlib
from collections.abc import Sequence

from imu2clip_jax.data import parts, windows
from imu2clip_jax.recordings import recording as recording_lib


def write_parts(
  entries: Sequence[recording_lib.Entry],
  options: windows.Options,
  folder: pathlib.Path,
  flags: Sequence[str],
) -> None:
  """Write the parts of all recordings; those that are there are kept.

  A recording that cannot be read gets no part, and does not stop the others.

  Args:
    entries: the recordings.
    options: how to cut.
    folder: where the parts go.
    flags: Beam's own, such as "--runner=FlinkRunner"; without any it runs here.

  Raises:
    ValueError: apache-beam is not installed.
  """
  try:
    import apache_beam as beam
    from apache_beam.options import pipeline_options
  except ImportError as error:
    raise ValueError(
      "apache-beam is missing: pip install 'imu2clip-jax[beam]'"
    ) from error
  folder.mkdir(parents=True, exist_ok=True)
  beam_options = pipeline_options.PipelineOptions(list(flags))
  with beam.Pipeline(options=beam_options) as pipeline:
    _ = (
      pipeline
      | "recordings"
      >> beam.Create([(e, parts.part_path(folder, e)) for e in entries])
      | "spread" >> beam.Reshuffle()
      | "cut" >> beam.Map(_write, options)
    )


def _write(part, options):
  return parts.write(*part, options)
