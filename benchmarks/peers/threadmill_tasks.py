"""Threadmill's task, in a module of its own: Django reads the settings before it takes a task."""

from common import effect
from django.tasks import task


@task()
def noop(number):
    effect(number)
