"""What only speed needs: Winograd's and spike-driven convolutions, tdBN and LIF in one pass, packing of inputs."""
