"""A bucket on this machine, behind a server that speaks Google's protocol."""

from collections.abc import Callable
import functools
from http import HTTPStatus
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


def _with_preconditions(handle: Callable[..., Any]) -> Callable[..., Any]:
  """Returns a handler that minds ifGenerationMatch, as Google's do."""

  @functools.wraps(handle)
  def checked(request, response, storage, *args, **options):
    wanted = request.query.get('ifGenerationMatch')
    if wanted is not None:
      name = _object_name(request)
      there = _generation(storage, request.params['bucket_name'], name)
      if int(wanted[0]) != there:
        response.status = HTTPStatus.PRECONDITION_FAILED
        return None
    return handle(request, response, storage, *args, **options)

  return checked


_HANDLERS = tuple(
    (route, {verb: _with_preconditions(f) for verb, f in handlers.items()})
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
