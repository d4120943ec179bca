# docker build -t gwfast . && docker run -p 8080:8080 -p 8443:8443 -v ./my-gateway:/etc/gwfast:ro gwfast
FROM python:3.13-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY constraints.txt pyproject.toml setup.py README.md LICENSE ./
COPY gwfast gwfast
RUN python -m venv /opt/gwfast \
 && /opt/gwfast/bin/pip install --no-cache-dir -c constraints.txt setuptools cython \
 && /opt/gwfast/bin/pip install --no-cache-dir -c constraints.txt --no-build-isolation . \
 && /opt/gwfast/bin/pip uninstall -y setuptools cython pip \
 && find /opt/gwfast -name '*.so' -exec strip --strip-unneeded {} +

FROM python:3.13-slim-bookworm
COPY --from=build /opt/gwfast /opt/gwfast
RUN useradd --system --uid 65532 --no-create-home gwfast && mkdir /etc/gwfast
ENV PATH=/opt/gwfast/bin:$PATH PYTHONUNBUFFERED=1 GWFAST_ADMIN=0.0.0.0:9000
USER 65532
EXPOSE 8080 8443 9000
HEALTHCHECK --interval=10s --timeout=4s --start-period=30s CMD ["gwfast", "healthcheck"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["gwfast"]
CMD ["run", "/etc/gwfast"]
