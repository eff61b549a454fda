// Broken: two goroutines change the same number without a lock or a channel.
package main

import (
	"fmt"
	"sync"
)

func main() {
	balance := 0
	var savers sync.WaitGroup
	for range []string{"Ann", "Bob"} {
		savers.Go(func() { balance += 10 })
	}
	savers.Wait()
	fmt.Println("the balance is", balance)
}
