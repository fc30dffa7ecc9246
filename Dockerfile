# docs/docker.md tells how to build and run it, and what the arguments are for.
FROM python:3.12-slim

# For compiled runs; empty for an image without.
ARG COMPILER=g++
# hadolint ignore=DL3008
RUN if [ -n "$COMPILER" ]; then \
      apt-get update && apt-get install -y --no-install-recommends "$COMPILER" \
      && rm -rf /var/lib/apt/lists/*; \
    fi

# The address that torch's selector gives; empty for pip's own torch, which on Linux has CUDA.
ARG TORCH_INDEX=
# hadolint ignore=DL3013
RUN pip install --no-cache-dir "torch>=2.11" "torchvision>=0.26" \
      ${TORCH_INDEX:+--index-url "$TORCH_INDEX"}

COPY pyproject.toml README.md LICENSE /src/
COPY bnrepro /src/bnrepro
COPY conf /src/conf
RUN pip install --no-cache-dir /src && rm -rf /src

# Any user may write here (docker run --user); without --user it is one who is not root.
RUN useradd --create-home --uid 1000 bnrepro \
    && mkdir -p /bnrepro/outputs /data \
    && chown -R bnrepro /bnrepro /data \
    && chmod -R a+rwX /bnrepro /data /home/bnrepro
USER 1000
WORKDIR /bnrepro
ENV BNREPRO_DATA=/data HOME=/home/bnrepro
VOLUME ["/bnrepro/outputs", "/data"]
EXPOSE 6006
ENTRYPOINT ["bnrepro"]
CMD ["--help"]
