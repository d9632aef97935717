# Two stages: wheels are installed where there is pip, the final image has neither pip nor a shell's needs.
FROM python:3.11-slim AS build
WORKDIR /src
RUN apt-get update && apt-get install --no-install-recommends --yes gcc libc6-dev
COPY pyproject.toml hatch_build.py README.md ./
COPY policies policies
COPY l4 l4
COPY waypoint waypoint
RUN python -m venv --without-pip /opt/pywaypoint \
 && PYWAYPOINT_TWIN=1 pip install --no-cache-dir --no-compile --prefix /opt/pywaypoint . \
 && find /opt/pywaypoint -name '*.pyi' -delete \
 && find /opt/pywaypoint -type d -name tests -prune -exec rm -rf {} +

FROM python:3.11-slim
LABEL org.opencontainers.image.title="pywaypoint" \
      org.opencontainers.image.description="An ambient mesh data plane: waypoint and ztunnel" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/pywaypoint /opt/pywaypoint
ENV PATH=/opt/pywaypoint/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
EXPOSE 15008 15020 15021
ENTRYPOINT ["waypoint"]
CMD ["--help"]
