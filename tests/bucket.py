"""A bucket on this machine, behind a server that speaks Google's protocol."""

from collections.abc import Callable
import functools
from http import HTTPStatus
import operator
import os
import socket
from typing import Any
import unittest
from unittest import mock

from gcp_storage_emulator import server as emulator

NAME = 'bucket'


def _generation(storage: Any, bucket: str, name: str) -> int:
  """Returns the generation of an object; 0 if there is none."""
  found = storage.objects.get(bucket, {}).get(name)
  return int(found['generation']) if found else 0


def _object_name(request: Any) -> str:
  if 'object_id' in request.params:
    return request.params['object_id']
  if 'name' in request.query:
    return request.query['name'][0]
  return request.data['meta']['name']


def _with_generations(handle: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a handler that minds and tells generations, as Google's do."""

  @functools.wraps(handle)
  def checked(request, response, storage, *args, **options):
    bucket = request.params.get('bucket_name', '')
    for condition, status, is_met in (
        ('ifGenerationMatch', HTTPStatus.PRECONDITION_FAILED, operator.eq),
        ('ifGenerationNotMatch', HTTPStatus.NOT_MODIFIED, operator.ne),
    ):
      for wanted in request.query.get(condition, ()):
        there = _generation(storage, bucket, _object_name(request))
        if not is_met(int(wanted), there):
          response.status = status
          return
    handle(request, response, storage, *args, **options)
    if 'object_id' in request.params:
      generation = _generation(storage, bucket, request.params['object_id'])
      response['x-goog-generation'] = str(generation)

  return checked


_HANDLERS = tuple(
    (route, {verb: _with_generations(f) for verb, f in handlers.items()})
    for route, handlers in emulator.HANDLERS
)


def _free_port() -> int:
  with socket.socket() as probe:
    probe.bind(('127.0.0.1', 0))
    return probe.getsockname()[1]


def variables(port: int) -> dict[str, str]:
  """Returns the environment in which each client finds the server."""
  url = f'http://127.0.0.1:{port}'
  return {
      'STORAGE_EMULATOR_HOST': url,  # gcsfs and google-cloud-storage.
      'TENSORSTORE_GCS_HTTP_URL': url,
      'GOOGLE_AUTH_TOKEN_FOR_TESTING': 'none',  # TensorStore asks for one.
  }


def start(case: unittest.TestCase | type[unittest.TestCase]) -> str:
  """Starts a server for the time of a test or of a test class.

  Returns:
    The address of an empty bucket, gs://….
  """
  is_class = isinstance(case, type)
  enter = case.enterClassContext if is_class else case.enterContext
  port = _free_port()
  enter(mock.patch.object(emulator, 'HANDLERS', _HANDLERS))
  enter(
      emulator.create_server(
          '127.0.0.1', port, in_memory=True, default_bucket=NAME
      )
  )
  enter(mock.patch.dict(os.environ, variables(port)))
  return f'gs://{NAME}'
