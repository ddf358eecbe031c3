"""The tracker on models and losses of other libraries: the norms are those of the outputs themselves."""

import pytest
import torch

from normlib.tracking import NormTracker


def tracked(model, layers, call):
    """Mean norm at each layer as the tracker saw it."""
    with torch.no_grad(), NormTracker(model, layers) as tracker:
        output = call(model)
        tracker.step()
    table = tracker.to_frame().query("statistic == 'mean'")
    return table.set_index("layer")["value"].to_dict(), output


@pytest.fixture(scope="module")
def images():
    return torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def test_torchvision(images):
    from torchvision.models import resnet18

    norms, output = tracked(resnet18().eval(), ["layer4", "avgpool", "fc"], lambda model: model(images))
    assert norms["fc"] == pytest.approx(output.norm(dim=1).mean().item(), rel=1e-5)
    assert norms["layer4"] == pytest.approx(norms["avgpool"], rel=1e-5)  # the mean over positions is what avgpool does


def test_timm_means_over_tokens(images):
    timm = pytest.importorskip("timm")
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, num_classes=0, depth=2).eval()
    norms, tokens = tracked(vit, ["norm"], lambda model: model.forward_features(images))
    assert tokens.shape == (4, 17, 192)
    assert norms["norm"] == pytest.approx(tokens.mean(dim=1).norm(dim=1).mean().item(), rel=1e-5)


def test_transformers_by_layer_and_by_element_of_the_output():
    transformers = pytest.importorskip("transformers")
    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    bert = transformers.BertModel(transformers.BertConfig(vocab_size=50, **small)).eval()
    words = torch.randint(50, (4, 7), generator=torch.Generator().manual_seed(0))
    norms, output = tracked(bert, [":last_hidden_state", "pooler"], lambda model: model(input_ids=words))
    mean = output.last_hidden_state.mean(dim=1).norm(dim=1).mean().item()
    assert norms[":last_hidden_state"] == pytest.approx(mean, rel=1e-5)
    assert norms["pooler"] == pytest.approx(output.pooler_output.norm(dim=1).mean().item(), rel=1e-5)


def test_lightly_head_and_loss_with_gradients(images):
    from lightly.loss import NTXentLoss
    from lightly.models.modules import SimCLRProjectionHead

    head = SimCLRProjectionHead(48, 16, 8)
    model = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), head)
    with NormTracker(model, ["2"], gradients=True) as tracker:
        z1, z2 = model(images), model(images.flip(3))
        z1.retain_grad()
        z2.retain_grad()
        NTXentLoss()(z1, z2).backward()
        tracker.step()
    means = tracker.to_frame().set_index("statistic")["value"]
    norms, grads = torch.cat([z1, z2]).norm(dim=1), torch.cat([z1.grad, z2.grad]).norm(dim=1)
    assert means["mean"] == pytest.approx(norms.mean().item(), rel=1e-5)
    assert means["grad_mean"] == pytest.approx(8 * grads.mean().item(), rel=1e-4)  # the mean loss has eight rows
