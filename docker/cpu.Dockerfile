# docker build -f docker/cpu.Dockerfile -t nastool:cpu .
FROM python:3.12-slim
WORKDIR /nastool
COPY . .
RUN pip install --no-cache-dir ".[all]" --extra-index-url https://download.pytorch.org/whl/cpu
WORKDIR /work
ENTRYPOINT ["nastool"]
