"""The HTTP API of a running flow: `/api/v1`, `/healthz`, `/readyz`, `/metrics`.

Served by the supervising process on threads of its own (`serving.py`), from what the workers last
reported (`live.py`) and from connections to the state store that only read (`readers.py`). The
table of routes (`routes.py`) is what is served, documented (`openapi.py`) and tested.
"""
