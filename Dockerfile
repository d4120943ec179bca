# docker build -t gwfast . && docker run -p 80:8080 -p 443:8443 -v ./my-gateway:/etc/gwfast:ro gwfast
# deploy/compose/ has it beside other services. The admin port answers the container alone: -e GWFAST_ADMIN=0.0.0.0:9000 opens it.
FROM python:3.13-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY constraints.txt pyproject.toml setup.py README.md LICENSE ./
COPY gwfast gwfast
RUN python -m venv /opt/gwfast \
 && /opt/gwfast/bin/pip install --no-cache-dir -c constraints.txt setuptools cython \
 && /opt/gwfast/bin/pip install --no-cache-dir -c constraints.txt --no-build-isolation . \
 && /opt/gwfast/bin/pip uninstall -y setuptools cython pip

FROM python:3.13-slim-bookworm
# --build-arg VERSION=0.1.0 --build-arg REVISION=$(git rev-parse HEAD)
ARG VERSION="" REVISION=""
LABEL org.opencontainers.image.title="gwfast" \
      org.opencontainers.image.description="A fast gateway that speaks the Kubernetes Gateway API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /opt/gwfast /opt/gwfast
RUN groupadd --system --gid 65532 gwfast && useradd --system --uid 65532 --gid gwfast --no-create-home gwfast && mkdir /etc/gwfast
ENV PATH=/opt/gwfast/bin:$PATH PYTHONUNBUFFERED=1
USER 65532
EXPOSE 8080 8443
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s CMD ["gwfast", "healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["gwfast"]
# A user that is not root listens on 8080 and 8443, for Gateways with the ports 80 and 443 as well as for those with these ports.
CMD ["run", "/etc/gwfast", "--port-map", "80:8080,443:8443"]
