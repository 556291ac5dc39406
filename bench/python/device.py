"""What the peers that use torch share: types, clocks, and what they say of themselves."""

import time

import torch

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}


def now(device):
    """The time once all work queued on the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds(work, device):
    """What `work` takes as a caller sees it, from an idle device to an idle device."""
    start = now(device)
    work()
    return now(device) - start


def device_seconds(work, device):
    """What `work` takes on the device by its own clock: of short work, without the launch's latency."""
    if device != "cuda":
        return seconds(work, device)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def facts(device):
    """Members of every answer."""
    return {"engine": f"torch {torch.__version__}", "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if device == "cuda" else device,
            "threads": torch.get_num_threads()}
