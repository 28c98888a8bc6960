# btcchat on a CPU, as an ordinary user. This file was not built where it was written: Docker could not run there.
#   docker build -t btcchat .
#   docker run --rm -v "$PWD:/data" btcchat caption before.png after.png
#   docker run --rm --stop-timeout 40 -p 8000:8000 -v "$PWD:/data" btcchat serve --host 0.0.0.0 --api-key-file keys.txt
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 btcchat
WORKDIR /src
COPY . .
# The index of torch's CPU builds comes first: the default one has builds for CUDA, which are gigabytes larger.
RUN pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir ".[serve]" -c constraints/current.txt \
    && rm -rf /src
USER btcchat
WORKDIR /data
EXPOSE 8000
# Of `btcchat serve`: ready once the model is loaded. Another command has ended before the first check.
HEALTHCHECK --interval=30s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8000/readyz', timeout=5)"]
ENTRYPOINT ["btcchat"]
CMD ["--help"]
