# The README's two commands in a container:
#   docker build -t attar .
#   docker run attar              make demo
#   docker run attar test         make test
# PyTorch without CUDA is smaller by gigabytes: docker build --build-arg TORCH_INDEX=... with the address of its index.
FROM debian:13-slim
RUN apt-get update && apt-get install -y --no-install-recommends git make python3 python3-venv python3-pip g++ \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /attar
COPY . .
ARG TORCH_INDEX=
RUN make .venv/.dev TORCH_INDEX="$TORCH_INDEX"
ENTRYPOINT ["make"]
CMD ["demo"]
