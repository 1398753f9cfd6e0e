"""An empty handler: what Bottle and gunicorn cost by themselves."""

from bottle import Bottle

app = Bottle()


@app.get("/hello")
@app.get("/health")
def hello() -> str:
    """Say nothing of interest."""
    return "{}"
