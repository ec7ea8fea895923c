# An image with the `mtl` command, CPU build of torch:
#   docker build -t mtl .
#   docker run --rm -v "$PWD:/work" mtl fit -c suites/samples --backbone bundled
FROM python:3.11-slim

COPY constraints.txt /tmp/constraints.txt
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt torch

COPY . /tmp/mtl
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt '/tmp/mtl[quickstart]' && rm -r /tmp/mtl

# Runs are written to the mounted folder with the rights of an ordinary user.
RUN useradd --create-home user
USER user
WORKDIR /work
ENTRYPOINT ["mtl"]
