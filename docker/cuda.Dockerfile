# docker build -f docker/cuda.Dockerfile -t nastool:cuda . && docker run --gpus all nastool:cuda
# The wheels of torch bring CUDA with them; the host needs its driver only.
FROM python:3.12-slim
WORKDIR /nastool
COPY . .
RUN pip install --no-cache-dir ".[all]"
WORKDIR /work
ENTRYPOINT ["nastool"]
