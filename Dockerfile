# btcchat on a CPU, as an ordinary user. This file was not built where it was written: Docker could not run there.
#   docker build -t btcchat .
#   docker run --rm -v "$PWD:/data" btcchat caption before.png after.png
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 btcchat
WORKDIR /src
COPY . .
# The index of torch's CPU builds comes first: the default one has builds for CUDA, which are gigabytes larger.
RUN pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir . -c constraints/current.txt \
    && rm -rf /src
USER btcchat
WORKDIR /data
ENTRYPOINT ["btcchat"]
CMD ["--help"]
