"""Who is measured. One module for each: a pure translator from gwfast's plan to its configuration, and how it is run.

Everybody keeps connections alive on both sides, adds the X-Forwarded fields that it can add by itself, and writes no access
log, but where that is what is measured; what else differs is said in its module. A contender that is not installed, or
cannot do what a case needs, is left out of that case, and the report says so.
"""
from bench.contenders.base import Contender, Unsupported
from bench.contenders.caddy import Caddy
from bench.contenders.envoy import Envoy
from bench.contenders.floor import Floor
from bench.contenders.gwfast import Gwfast
from bench.contenders.h2o import H2o
from bench.contenders.haproxy import HAProxy
from bench.contenders.nghttpx import Nghttpx
from bench.contenders.nginx import Nginx
from bench.contenders.traefik import Traefik

CONTENDERS: dict[str, type[Contender]] = {
    each.name: each for each in (Floor, Gwfast, Nginx, HAProxy, Envoy, Caddy, Traefik, Nghttpx, H2o)}

__all__ = ["CONTENDERS", "Contender", "Unsupported"]
