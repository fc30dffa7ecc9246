# docker build -t bnrepro .
# docker run --rm -v "$PWD/outputs:/bnrepro/outputs" -v "$PWD/data:/data" bnrepro train dataset=digits
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 bnrepro \
 && mkdir -p /bnrepro/outputs /data \
 && chown -R bnrepro:bnrepro /bnrepro /data

COPY pyproject.toml README.md LICENSE /src/
COPY bnrepro /src/bnrepro
COPY conf /src/conf
RUN pip install --no-cache-dir /src && rm -rf /src

USER bnrepro
WORKDIR /bnrepro
ENV BNREPRO_DATA=/data
VOLUME ["/bnrepro/outputs", "/data"]
EXPOSE 6006
ENTRYPOINT ["bnrepro"]
CMD ["--help"]
