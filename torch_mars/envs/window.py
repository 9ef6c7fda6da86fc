"""A window that shows pictures, one after another; for render_mode "human" and for `play --live`."""

import os

import numpy as np


class Window:
    """A window of the desktop.

    Args:
        title: what is written above it.
        shape: of the pictures: [H, W, 3].
        frames_per_second: how fast `show` may be called; it waits where the caller is faster.

    Raises:
        RuntimeError: pygame is missing, or there is no display.
    """

    def __init__(self, title: str, shape: tuple[int, ...], frames_per_second: float):
        try:
            import pygame
        except ImportError:
            raise RuntimeError("a window needs pygame: pip install pygame") from None
        try:
            pygame.display.init()
            is_chosen = "SDL_VIDEODRIVER" in os.environ  # otherwise SDL falls back to a window that nobody can see
            if pygame.display.get_driver() in ("offscreen", "dummy") and not is_chosen:
                raise pygame.error("no video device")
            self._surface = pygame.display.set_mode((shape[1], shape[0]))
        except pygame.error as error:
            pygame.display.quit()
            raise RuntimeError(f"found no display ({error})") from None
        pygame.display.set_caption(title)
        self._pygame = pygame
        self._clock = pygame.time.Clock()
        self._frames_per_second = frames_per_second
        self.was_closed = False  # by the user

    def show(self, picture: np.ndarray) -> None:
        """Show a picture uint8 [H, W, 3]."""
        surface = self._pygame.image.frombuffer(np.ascontiguousarray(picture), picture.shape[1::-1], "RGB")
        self._surface.blit(surface, (0, 0))
        for event in self._pygame.event.get():  # asked for every time, or the desktop takes the window for dead
            self.was_closed |= event.type == self._pygame.QUIT
        self._pygame.display.flip()
        self._clock.tick(self._frames_per_second)

    def close(self) -> None:
        self._pygame.display.quit()
