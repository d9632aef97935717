# An image of both programs, for example:
#
#     docker build --build-arg COMMIT=$(git rev-parse --short=12 HEAD) --tag pywaypoint .
#
# BASE is what the programs run on: anything with a shell, a PATH, and a Python from 3.11 on named python3. It should have OpenSSL 3.5 or
# newer, as Debian 13 has: 3.0 encrypts less than half as fast. And a Python built with profiles, as Debian's is and the one below: others
# take a seventh more CPU. BUILD_BASE is what they are built on: the same Python at the same path, with the venv module, and, for the
# compiled twin, a C compiler and Python's headers (where cc is missing, Debian's gcc is installed). TWIN=0 leaves the twin out.
# `make image-test` builds it on Debian's own Python.
ARG BASE=docker.io/library/python:3.11-slim-trixie
ARG BUILD_BASE=$BASE

FROM $BUILD_BASE AS build
WORKDIR /src
ARG TWIN=1
RUN test "$TWIN" != 1 || command -v cc \
 || { apt-get update && apt-get install --no-install-recommends --yes gcc libc6-dev; }

# What is needed to run goes into /opt/pywaypoint, what is needed to build into /opt/build, which stays behind. Both come from the lock, by
# hash. The environment is made at the path that it will have: the programs in its bin name the Python beside them.
COPY requirements.lock ./
RUN python3 -m venv /opt/build && python3 -m venv --without-pip /opt/pywaypoint \
 && sed '/^# section: build/,$d' requirements.lock > run.lock \
 && sed '/^# section: dev/,$d' requirements.lock > build.lock \
 && /opt/build/bin/pip --python /opt/pywaypoint/bin/python3 install --no-compile --require-hashes --requirement run.lock \
 && /opt/build/bin/pip install --no-compile --require-hashes --requirement build.lock

COPY pyproject.toml hatch_build.py pywaypoint.py README.md LICENSE ./
COPY twin twin
COPY policies policies
COPY l4 l4
COPY waypoint waypoint
ARG COMMIT=
RUN PYWAYPOINT_TWIN=$TWIN PYWAYPOINT_COMMIT=$COMMIT \
    /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /opt/build/bin/pip --python /opt/pywaypoint/bin/python3 install --no-compile --no-deps --no-index /wheels/*.whl \
 && find /opt/pywaypoint -name '*.pyi' -delete \
 && find /opt/pywaypoint -type d -name tests -prune -exec rm -rf {} + \
 && /opt/pywaypoint/bin/python3 -m compileall -q --invalidation-mode unchecked-hash /opt/pywaypoint/lib

FROM $BASE
LABEL org.opencontainers.image.title="pywaypoint" \
      org.opencontainers.image.description="An ambient mesh data plane: waypoint and ztunnel" \
      org.opencontainers.image.licenses="Apache-2.0 AND MIT"
# A node's agent writes routes and nftables rules.
RUN { command -v nft && command -v ip; } \
 || { apt-get update && apt-get install --no-install-recommends --yes nftables iproute2 && rm -rf /var/lib/apt/lists/*; }
COPY --from=build /opt/pywaypoint /opt/pywaypoint
# Bytecode is there already, and the user may not write any.
ENV PATH=/opt/pywaypoint/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
# An image whose programs can't start is not made.
RUN waypoint --version && ztunnel --version
EXPOSE 15008 15020 15021
ENTRYPOINT ["waypoint"]
CMD ["--help"]
