"""A real server in a container. Needs Docker, and `pip install testcontainers`."""

from __future__ import annotations

from typing import Self

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from redsched.testing.servers import answers, free_port, wait_until

__all__ = ["ContainerServer"]


class ContainerServer:
    """A server in a container, on a fixed port so that it keeps it over restarts.

    >>> with ContainerServer("valkey/valkey:9") as server:
    ...     server.kill()
    ...     server.start()

    Args:
        image: such as `redis:7`; the Docker daemon needs to have it, or to be able to get it.
        args: the command in it, where that is not the image's own.
    """

    def __init__(self, image: str, *args: str) -> None:
        # It would remove containers after a killed test run, but its image would have to be pulled.
        testcontainers_config.ryuk_disabled = True
        self.image = image
        self.port: int = free_port()
        self.url: str = f"redis://127.0.0.1:{self.port}"
        self._container = DockerContainer(image)
        # As with_bind_ports, which would open a Redis without a password to the network.
        self._container.ports["6379/tcp"] = ("127.0.0.1", self.port)  # pyright: ignore[reportArgumentType]
        if args:
            self._container.with_command(list(args))
        try:
            self._container.start()
            self._wait()
        except BaseException:
            self.close()
            raise

    def _wait(self) -> None:
        wait_until(lambda: answers(self.port), 30, f"{self.image} answers")

    def start(self) -> None:
        """Start it again, with its data."""
        self._container.get_wrapped_container().start()
        self._wait()

    def stop(self) -> None:
        """In good order."""
        self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        """kill -9."""
        self._container.get_wrapped_container().kill()

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Remove it, and its data."""
        self._container.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
