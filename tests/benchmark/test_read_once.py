"""A fit whose method remembers the shots reads each of them once, however many epochs it has."""

from torch.utils.data import DataLoader, Dataset

from benchmark.execution.fitting import read_once


def test_a_fit_that_remembers_its_shots_reads_each_once():
    read = []

    class Images(Dataset):
        def __len__(self):
            return 3

        def __getitem__(self, index):
            read.append(index)
            return index

    loader = DataLoader(Images(), batch_size=2, shuffle=True, collate_fn=list)
    batches = read_once(loader)
    epochs = [list(batches) for _ in range(3)]
    assert sorted(read) == [0, 1, 2]
    assert [len(part) for part in epochs[0]] == [2, 1]
    assert epochs[0] == epochs[1] == epochs[2]
